"""uv against a package index on the loopback interface; nothing here needs a network."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner import packages
from runner.errors import InfrastructureError, UsageError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


def add_wheel(index: Path, name: str, version: str, *needs: str) -> None:
    """Put a wheel with one empty module into a simple package index."""
    folder = index / "simple" / name
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    links = [
        f'<a href="{w.name}#sha256={hashlib.sha256(w.read_bytes()).hexdigest()}">{w.name}</a>'
        for w in sorted(folder.glob("*.whl"))
    ]
    (folder / "index.html").write_text("\n".join(links))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("index")
    add_wheel(folder, "ipykernel", "7.2.0", "helper>=1")
    add_wheel(folder, "ipykernel", "8.0.0")
    add_wheel(folder, "helper", "1.0")
    add_wheel(folder, "helper", "2.0")
    add_wheel(folder, "old", "1.0", "helper<2")
    add_wheel(folder, "new", "1.0", "helper>=2")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(autouse=True)
def _uv(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def test_resolve_pins_everything_and_the_kernel() -> None:
    assert packages.resolve([], sys.executable, 60) == ("helper==2.0", "ipykernel==7.2.0")
    pins = packages.resolve(["old"], sys.executable, 60)
    assert pins == ("helper==1.0", "ipykernel==7.2.0", "old==1.0")


def test_packages_that_cannot_be_had_are_the_users_to_mend() -> None:
    with pytest.raises(UsageError, match="nope-nope was not found in the package registry"):
        packages.resolve(["nope-nope"], sys.executable, 60)
    with pytest.raises(UsageError, match=r"(?s)old.*new.*incompatible"):
        packages.resolve(["old", "new"], sys.executable, 60)
    with pytest.raises(UsageError, match="no version of helper==9"):
        packages.resolve(["helper==9"], sys.executable, 60)
    with pytest.raises(UsageError, match="parse"):
        packages.resolve(["helper=!=1"], sys.executable, 60)


def test_no_network_is_not_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://me:hunter2@127.0.0.1:{port}/simple")
    with pytest.raises(InfrastructureError, match="Connection refused") as caught:
        packages.resolve(["helper"], sys.executable, 60)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://nowhere.invalid/simple")
    with pytest.raises(InfrastructureError):
        packages.resolve(["helper"], sys.executable, 60)


def test_an_index_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        with pytest.raises(InfrastructureError, match="within 1 s"):
            packages.resolve(["helper"], sys.executable, 1)


@pytest.mark.parametrize(
    "text",
    [
        "--index-url=http://127.0.0.1/simple",
        "-r requirements.txt",
        "-e .",
        "helper\n--index-url=http://127.0.0.1/simple",
        "./local",
        "/etc",
        "local.whl",
        "helper @ https://me:hunter2@127.0.0.1/helper.whl",
        "helper @ file:///etc/helper.whl",
        "helper @ git+file:///etc",
        "helper @ git+ext::sh -c id",
        "https://127.0.0.1/x.whl --index-url=x",
        "# comment",
        "",
    ],
)
def test_refused_requirements(text: str) -> None:
    with pytest.raises(UsageError, match="refused") as caught:
        packages.resolve([text], sys.executable, 60)
    assert "hunter2" not in str(caught.value)


def test_a_virtual_environment(tmp_path: Path) -> None:
    venv, log = tmp_path / "venv", tmp_path / "install.log"
    pins = packages.resolve(["old"], sys.executable, 60)
    packages.make_venv(venv, sys.executable, pins, 60, log)
    python = str(venv / "bin/python")
    assert packages.freeze(python) == pins
    said = subprocess.run(
        [python, "-c", "import old; print(old.version)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "1.0\n"
    assert "uv venv" in log.read_text()
    assert "helper==1.0" in log.read_text()


def test_a_virtual_environment_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nope"):
        packages.make_venv(
            tmp_path / "venv", sys.executable, ["nope==1"], 60, tmp_path / "install.log"
        )
    assert not (tmp_path / "venv").exists()


def test_a_project_is_installed_beside_the_pins(
    tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, log = tmp_path / "venv", tmp_path / "install.log"
    packages.make_venv(venv, sys.executable, ["helper==2.0"], 60, log)
    project = tmp_path / "project"
    project.mkdir()
    (project / "project.py").write_text("x = 1\n")
    backend = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    (project / "backend.py").write_text(_BACKEND)
    (project / "pyproject.toml").write_text(backend)
    with pytest.raises(UsageError, match=r"(?s)helper.*unsatisfiable"):
        packages.install_editable(str(venv / "bin/python"), project, 60, log)
    (project / "backend.py").write_text(_BACKEND.replace("helper<2", "helper"))
    packages.install_editable(str(venv / "bin/python"), project, 60, log)
    assert "helper==2.0" in packages.freeze(str(venv / "bin/python"))
    assert any("project" in line for line in packages.freeze(str(venv / "bin/python")))


_BACKEND = """
import zipfile, pathlib

def build_editable(folder, config_settings=None, metadata_directory=None):
    wheel, info = "project-1.0-py3-none-any.whl", "project-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, wheel), "w") as archive:
        archive.writestr("project.pth", str(pathlib.Path.cwd()))
        archive.writestr(
            info + "/METADATA",
            "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\nRequires-Dist: helper<2\\n",
        )
        archive.writestr(
            info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        )
        archive.writestr(info + "/RECORD", "")
    return wheel
"""


def test_find_python() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert Path(packages.find_python(version)).exists()
    with pytest.raises(UsageError, match=r"3\.99"):
        packages.find_python("3.99")


# -- over another Python's packages --------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, index: str) -> str:
    """A Python as an image has it, itself in a virtual environment; its `helper` is pinned."""
    packages.make_venv(tmp_path / "image", sys.executable, ["helper==2.0"], 60, tmp_path / "log")
    site = next((tmp_path / "image").glob("lib/python3*/site-packages"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/linked.py").write_text("")
    (site / "linked.pth").write_text(f"{tmp_path}/elsewhere\n")
    return str(tmp_path / "image/bin/python")


def said(python: str, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_overlay_has_its_own_and_all_that_is_below(tmp_path: Path, image: str) -> None:
    venv, log = tmp_path / "venv", tmp_path / "install.log"
    (venv / ".uv-cache").mkdir(parents=True)  # a volume, and what else is on it
    packages.make_overlay(venv, image, ["old==1.0"], 60, log)
    python = str(venv / "bin/python")
    assert said(python, "import old, helper, linked; print(helper.version)") == "2.0"
    assert packages.freeze(python) == ("old==1.0",), "nothing that the image has, again"
    packages.make_overlay(venv, image, ["helper==1.0"], 60, log)
    assert said(python, "import helper; print(helper.version)") == "1.0", "its own come first"
    there = packages.installed(Path(python), Path(image))
    assert "helper==1.0" in there
    assert not any(pin.startswith("linked") for pin in there)
    with pytest.raises(UsageError, match="nope"):
        packages.make_overlay(venv, image, ["nope==1"], 60, log)


def test_a_project_over_an_image_takes_what_is_there(tmp_path: Path, image: str) -> None:
    venv, log = tmp_path / "venv", tmp_path / "install.log"
    packages.make_overlay(venv, image, [], 60, log)
    python, project = str(venv / "bin/python"), tmp_path / "project"
    project.mkdir()
    (project / "project.py").write_text("x = 1\n")
    backend = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    (project / "pyproject.toml").write_text(backend)
    (project / "backend.py").write_text(_BACKEND)
    with pytest.raises(UsageError, match=r"(?s)helper.*unsatisfiable"):
        packages.install_over(python, image, project, 60, log)
    (project / "backend.py").write_text(_BACKEND.replace("helper<2", r"helper\nRequires-Dist: new"))
    packages.install_over(python, image, project, 60, log)
    assert said(python, "import project, new, helper; print(helper.version)") == "2.0"
    assert not any(line.startswith("helper") for line in packages.freeze(python))


def test_what_is_installed_is_read_from_names_alone(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    names = ("Foo_Bar-1.2.dist-info", "baz-2.0+cu121.dist-info", "old-1-py3.11.egg-info", "no.pth")
    for name in names:
        (site / name).mkdir(parents=True)
    there = packages.installed(tmp_path / "bin/python")
    assert there == ("baz==2.0+cu121", "foo-bar==1.2", "old==1")


def test_the_local_part_of_a_version_is_no_constraint() -> None:
    assert packages._public("torch==2.4.0+cu121") == "torch==2.4.0"
