"""Images, without an engine: what is sent, what it is called, what the chart is told."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.cluster import Cluster, example
from runner.errors import InfrastructureError, UsageError
from runner.images import build
from runner.images.build import Base, Progress
from runner.images.catalogue import Pushed, check, values
from runner.images.context import Context, Facts
from runner.images.definition import FOLDER, names, read
from runner.images.facts import Python
from runner.images.labels import Labels
from runner.images.local import Present
from runner.images.push import check_registry, push
from runner.images.wheel import wheel
from runner.settings import Network

BASE = Base("debian:bookworm-slim", "sha256:" + "1" * 64)
SANDBOX = Context(
    "base",
    Facts("sandbox", "/opt/python/bin/python"),
    "0.1.0",
    {"Dockerfile": b"FROM x\n", "system.txt": b"git\ntini\n"},
    {"runner/__init__.py": b"", "runner/a.py": b"print(1)\n"},
)
AGENT = replace(SANDBOX, name="agent", facts=Facts("agent"))
PYTHON = Python("/opt/python/bin/python", "3.11.2", ("numpy==2.4.6", "pandas==3.1.1"))


def told(context: Context) -> Labels:
    return build._labels(context, BASE, PYTHON, (), "c" * 40)


def present(context: Context) -> Present:
    created = "2026-11-27T02:44:55Z"
    return Present(context.tag(BASE.id), "sha256:" + "2" * 64, 10**6, created, told(context))


def test_a_tag_is_the_hash_of_the_content() -> None:
    assert SANDBOX.tag(BASE.id) == SANDBOX.tag(BASE.id)
    assert re.fullmatch(r"runner/base:[0-9a-f]{12}", SANDBOX.tag(BASE.id))
    turned = replace(SANDBOX, files=dict(reversed(SANDBOX.files.items())))
    assert turned.tag(BASE.id) == SANDBOX.tag(BASE.id)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SANDBOX, files={**SANDBOX.files, "Dockerfile": b"FROM y\n"}),
        replace(SANDBOX, files={**SANDBOX.files, "python.txt": b""}),
        replace(SANDBOX, source={**SANDBOX.source, "runner/a.py": b"print(2)\n"}),
        replace(SANDBOX, source={"runner/__init__.py": b"", "runner/b.py": b"print(1)\n"}),
        replace(SANDBOX, version="0.1.1"),
        AGENT,
    ],
)
def test_another_content_has_another_tag(changed: Context) -> None:
    assert changed.content(BASE.id) != SANDBOX.content(BASE.id)
    assert SANDBOX.content("sha256:" + "3" * 64) != SANDBOX.content(BASE.id)


def test_the_same_content_is_sent_as_the_same_bytes() -> None:
    assert SANDBOX.archive() == SANDBOX.archive()
    with tarfile.open(fileobj=io.BytesIO(SANDBOX.archive(b"CERTIFICATE"))) as archive:
        assert archive.getnames() == sorted(archive.getnames())
        assert "runner-0.1.0-py3-none-any.whl" in archive.getnames()
        bundle = archive.extractfile("ca.crt")
        assert bundle is not None
        assert bundle.read() == b"CERTIFICATE"
    with tarfile.open(fileobj=io.BytesIO(SANDBOX.archive())) as archive:
        assert "ca.crt" not in archive.getnames()


def test_the_wheel_can_be_installed_and_imported(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    file = tmp_path / "runner-0.1.0-py3-none-any.whl"
    file.write_bytes(wheel("0.1.0", {"runner/__init__.py": b"WORDS = 'it is here'\n"}))
    place = tmp_path / "place"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--target", place, file],
        check=True,
        timeout=60,
    )
    said = subprocess.run(
        [sys.executable, "-c", "import runner; print(runner.WORDS)"],
        env={"PYTHONPATH": str(place)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "it is here\n"
    assert (place / "runner-0.1.0.dist-info" / "METADATA").exists()


def test_our_images_are_read_with_the_runners_source() -> None:
    assert set(names()) >= {"agent", "base"}
    agent, base = read(["agent", "base"])
    assert agent.facts.role == "agent"
    assert base.facts == Facts("sandbox", "/opt/python/bin/python", False)
    assert {"git", "tini"} <= set(base.system_packages)
    assert {"Dockerfile", "runner.txt", "python.txt", "system.txt"} == set(base.files)
    source = Path(runner.__file__).read_bytes()
    assert base.source["runner/__init__.py"] == source
    assert "runner/sandbox/static/page.js" in base.source
    assert not [path for path in base.source if "__pycache__" in path]


def test_an_image_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image 'bse'.*\n.*base"):
        read(["bse"])
    with pytest.raises(UsageError, match="no such directory"):
        read(folder=tmp_path / "images")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "Dockerfile").write_text("FROM x")
    (tmp_path / "odd" / "image.toml").write_text("colour = 1")
    with pytest.raises(UsageError, match=r"image.toml.*colour"):
        read(folder=tmp_path)


@pytest.mark.parametrize("name", names())
def test_every_package_of_an_image_is_pinned_with_hashes(name: str) -> None:
    locks = [path for path in (FOLDER / name).glob("*.txt") if path.name != "system.txt"]
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text
        for requirement in text.replace("\\\n", " ").splitlines():
            assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ .*--hash=sha256:", requirement), requirement


def test_the_agents_image_has_no_jupyter_server_and_no_kernel() -> None:
    lock = (FOLDER / "agent" / "runner.txt").read_text()
    found = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.M))
    assert {"anthropic", "s3fs"} <= found
    assert not found & {"jupyter-server", "ipykernel", "ipython", "kubernetes", "docker"}


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("base", {"sandbox"}),
        ("agent", {"agent", "command", "s3"}),
        ("client", {"cli", "kubernetes", "s3", "agent"}),
    ],
)
def test_an_image_has_all_that_its_extras_name(name: str, extras: set[str]) -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    lock = (FOLDER / name / "runner.txt").read_text()
    found = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.M))
    assert {re.split("[<>=]", requirement)[0] for requirement in asked} <= found


@pytest.mark.parametrize("name", names())
def test_a_dockerfile_takes_its_base_and_ends_as_a_plain_user(name: str) -> None:
    text = (FOLDER / name / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^ARG BASE\b", text, re.M)
    assert "USER 1000:1000" in last
    assert 'ENTRYPOINT ["tini", "--"]' in last
    assert "HEALTHCHECK NONE" in last
    assert "org.opencontainers.image.description" in last
    assert "ARG " not in last, "arguments would stay in the image's history"


def test_the_values_are_what_the_chart_takes() -> None:
    pushed = [
        Pushed(told(AGENT), "registry.example/runner/agent@sha256:" + "a" * 64),
        Pushed(told(SANDBOX.called("alpha")), "registry.example/alpha@sha256:" + "c" * 64),
        Pushed(told(SANDBOX), "registry.example/runner/base@sha256:" + "b" * 64),
    ]
    given = values(pushed)
    cluster: Cluster = example(**given)
    assert [image.name for image in cluster.images.catalogue] == ["base", "alpha"]
    assert given["images"]["agent"] == pushed[0].reference
    assert given["images"]["catalogue"][0] == {
        "name": "base",
        "image": pushed[2].reference,
        "python": "/opt/python/bin/python",
        "pythonVersion": "3.11.2",
        "packages": ["numpy==2.4.6", "pandas==3.1.1"],
        "systemPackages": ["git", "tini"],
        "gpu": False,
    }


def test_a_catalogue_needs_both_kinds() -> None:
    agent, base = ("agent", "agent"), ("base", "sandbox")
    check([agent, base])
    for images in ([agent], [base], []):
        with pytest.raises(UsageError, match="the agent's image, and a sandbox's"):
            check(images)
    with pytest.raises(UsageError, match="two images are called base"):
        check([agent, base, base])


def follow(*events: dict[str, Any]) -> list[Progress]:
    seen: list[Progress] = []
    build._follow("base", events, seen.append)
    return seen


def test_the_engines_stream_becomes_steps_and_lines() -> None:
    seen = follow(
        {"stream": "Step 2/9 : RUN apt-get update && true\n"},
        {"stream": " ---> Running in 0123\n"},
        {"stream": "\x1b[91mwarn\x1b[0m"},
        {"stream": "\x1b[91ming: x\n\x1b[0m"},
        {"stream": "without an end"},
        {"aux": {"ID": "sha256:1"}},
    )
    assert seen[0] == Progress("base", 2, 9, "RUN apt-get update && true")
    assert [item.line for item in seen[1:]] == [
        " ---> Running in 0123",
        "warning: x",
        "without an end",
    ]


def test_a_step_that_fails_shows_its_last_lines_only() -> None:
    lines = [{"stream": f"line {number}\n"} for number in range(50)]
    with pytest.raises(InfrastructureError) as caught:
        follow(
            {"stream": "Step 1/9 : FROM x\n"},
            {"stream": "of an earlier step\n"},
            {"stream": "Step 2/9 : RUN pip install --requirement y\n"},
            *lines,
            {"errorDetail": {"message": "returned a non-zero code: 1"}, "error": "no"},
        )
    said = str(caught.value)
    assert "base: step 2 of 9 failed: RUN pip install --requirement y" in said
    assert "non-zero code: 1" in said
    assert "line 49" in said
    assert "line 10" not in said
    assert "earlier" not in said
    assert "--ca-bundle" in said


def test_proxies_and_indexes_are_arguments_of_the_build() -> None:
    environ = {"https_proxy": "http://p:1", "NO_PROXY": "x", "PIP_INDEX_URL": "u", "HOME": "/h"}
    given = Network(no_proxy="y", http_proxy="http://q:2").over(environ)
    assert build._arguments(environ, given, "debian:12", "/opt/lab/bin/python", True) == {
        "BASE": "debian:12",
        "https_proxy": "http://p:1",
        "HTTPS_PROXY": "http://p:1",
        "http_proxy": "http://q:2",
        "HTTP_PROXY": "http://q:2",
        "no_proxy": "y",
        "NO_PROXY": "y",
        "PIP_INDEX_URL": "u",
        "PYTHON": "/opt/lab/bin/python",
        "CA_BUNDLE": "/opt/images/ca.crt",
    }
    assert build._arguments({}, Network(), "debian:12", "", False) == {"BASE": "debian:12"}


class Registry:
    """The part of the engine that pushes."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.api, self.events = self, events

    def tag(self, image: str, repository: str, tag: str) -> None:
        self.tagged = (image, repository, tag)

    def push(self, repository: str, tag: str, **_: Any) -> tuple[dict[str, Any], ...]:
        return self.events


def test_a_push_gives_the_reference_by_digest() -> None:
    digest = "sha256:" + "d" * 64
    engine: Any = Registry(
        {"status": "Pushing", "id": "0123", "progress": "[=>]"}, {"aux": {"Digest": digest}}
    )
    said: list[str] = []
    image = present(SANDBOX)
    reference = push(engine, image, "localhost:5000/lab", said.append)
    assert reference == f"localhost:5000/lab/runner/base@{digest}"
    tag = image.tag.rpartition(":")[2]
    assert engine.tagged == (image.id, "localhost:5000/lab/runner/base", tag)
    assert said == ["0123 Pushing [=>]"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("denied: requested access to the resource is denied", "docker login ghcr.io"),
        ("unauthorized: authentication required", "docker login ghcr.io"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "is it there?"),
    ],
)
def test_a_registry_that_refuses_is_told_with_what_mends_it(words: str, hint: str) -> None:
    engine: Any = Registry({"errorDetail": {"message": words}, "error": words})
    with pytest.raises(InfrastructureError) as caught:
        push(engine, present(SANDBOX), "ghcr.io/lab", lambda _: None)
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_what_is_no_registry_is_refused() -> None:
    for good in ("localhost:5000", "ghcr.io/our-lab", "r.example:443/a/b"):
        assert check_registry(good) == good
    for bad in ("https://x", "", "a b", "x/", "x:", "-x"):
        with pytest.raises(UsageError, match="is no registry"):
            check_registry(bad)


def test_without_an_engine_it_is_said_what_to_start(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "runner", "images", "list"],
        env={"DOCKER_HOST": f"unix://{tmp_path}/docker.sock", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 3
    assert said.stdout == ""
    assert said.stderr.startswith(f"error: no Docker engine answers at unix://{tmp_path}")
    assert "systemctl start docker" in said.stderr


def test_a_ca_bundle_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        build._read(tmp_path / "no.crt")
    assert build._read(None) is None
