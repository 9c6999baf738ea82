"""Which images are meant, which bases will do, and how a lab's Python is kept. Without an engine."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from runner.errors import InfrastructureError, RunnerError, UsageError
from runner.images import build
from runner.images.build import Base, Progress
from runner.images.choice import again, choose
from runner.images.definition import FOLDER, names, read
from runner.images.facts import Python
from runner.images.probe import Probe, check, parse

BASE = Base("lab/torch:2.9", "sha256:" + "1" * 64)
FINE = Probe(
    "lab/torch:2.9", True, "debian 12", "/opt/lab/bin/python3", (3, 12, 1), ("torch",), True, True
)


def test_without_names_the_small_images_are_meant() -> None:
    assert [context.name for context in choose((), None, ())] == ["agent", "base", "client"]
    assert set(names()) == {"agent", "base", "client", "gpu", "lab"}
    assert [context.name for context in choose(("gpu",), None, ())] == ["gpu"]


def test_a_labs_image_has_a_name_of_its_own_and_additions() -> None:
    (plain,) = choose(("lab",), None, ())
    (image,) = choose(("lab",), "torch", ("ffmpeg", "git"))
    assert image.tag(BASE.id).startswith("runner/torch:")
    assert image.content(BASE.id) != plain.content(BASE.id)
    assert image.added == ("ffmpeg",), "git is there already"
    assert {"ffmpeg", "git"} <= {*image.system_packages}
    told = build._labels(image, BASE, Python("/p", "3.12.1", ()), ("gcc", "git"), None)
    assert {"gcc", "ffmpeg", "git"} <= {*told.system_packages}
    assert (told.name, told.folder, told.added) == ("torch", "lab", ("ffmpeg",))
    assert again(told, read(names())) == image
    assert again(replace(told, folder="gone"), read(names())) is None
    assert choose(("lab",), "lab", ("git",)) == [plain]


@pytest.mark.parametrize(
    ("given", "called", "added", "words"),
    [
        ((), "torch", (), "--name torch is for one image, and these are 3"),
        ((), None, ("ffmpeg",), "--add is for one image"),
        (("lab",), "Torch", (), "'Torch' is no name of an image"),
        (("lab",), "base", (), "'base' is what an image of images/base is called"),
        (("lab",), None, ("ffmpeg=7",), "'ffmpeg=7' is no name of a Debian package"),
        (("lab",), None, ("--yes",), "'--yes' is no name of a Debian package"),
        (("nothing",), None, (), "there is no image 'nothing'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    given: tuple[str, ...], called: str | None, added: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choose(given, called, added)


def test_a_base_is_read_from_what_it_says() -> None:
    python = {"python": "/usr/bin/python3", "version": [3, 11, 2], "packages": ["pip", "torch"]}
    said = f"apt\nos debian 12\n{json.dumps({**python, 'ensurepip': True, 'open': True})}\n"
    assert parse("b", 0, said, "") == Probe(
        "b", True, "debian 12", "/usr/bin/python3", (3, 11, 2), ("torch",), True, True
    )
    assert parse("b", 0, "os alpine 3.20\n", "") == Probe("b", False, "alpine 3.20")
    assert parse("b", 0, "", "") == Probe("b", False, "")
    with pytest.raises(UsageError, match="does not run a shell here: exec format error"):
        parse("b", 1, "", "standard_init_linux.go\nexec format error\n")
    with pytest.raises(UsageError, match="its Python fails: Fatal Python error"):
        parse("b", 1, "apt\n", "Fatal Python error")


@pytest.mark.parametrize(
    ("image", "base", "words"),
    [
        ("base", replace(FINE, apt=False, system="alpine 3.20"), "no apt-get, it is alpine 3.20"),
        ("base", replace(FINE, version=(3, 9, 2)), "is 3.9.2, and the runner needs 3.11"),
        ("base", Probe("b", True, "debian 11"), "the Python of debian 11 is older than 3.11"),
        ("base", Probe("b", True, "ubuntu 22.04"), "the Python of ubuntu 22.04 is older"),
        ("lab", Probe("b", True, "debian 12"), "no python3 on its PATH"),
        ("lab", replace(FINE, version=(2, 7, 18)), "is 2.7.18, and the runner needs 3.11"),
        ("lab", replace(FINE, open=False), "uid 1000, which cannot use /opt/lab/bin/python3"),
        ("lab", replace(FINE, ensurepip=False), "it has no ensurepip"),
    ],
)
def test_a_base_that_cannot_do_is_refused(image: str, base: Probe, words: str) -> None:
    (context,) = read([image])
    with pytest.raises(UsageError, match=words) as caught:
        check(context, base)
    assert caught.value.hint


def test_a_base_that_can_do_is_taken() -> None:
    base, lab = read(["base", "lab"])
    check(lab, FINE)
    check(lab.adding(["python3-venv"]), replace(FINE, ensurepip=False))
    for system in ("debian 12", "debian 13", "ubuntu 24.04", "debian ", ""):
        check(base, Probe("b", True, system))


def failed(words: str, *lines: str) -> RunnerError:
    return build._failed(Progress("lab", 2, 9, "RUN x"), words, lines)


def test_a_full_disk_is_told_with_what_makes_space() -> None:
    code = "The command '/bin/sh -c x' returned a non-zero code: 1"
    for error in (
        failed("failed to register layer: write /a: no space left on device"),
        failed(code, "dd: error writing '/big': No space left on device"),
        build._no_base("debian:12", "write /var/lib/docker/tmp/x: no space left on device"),
    ):
        assert isinstance(error, InfrastructureError)
        assert "docker system df" in error.hint
        assert "docker image prune" in error.hint


def test_what_only_the_user_can_mend_is_no_fault_of_the_machine() -> None:
    for line, words in (
        ("E: Unable to locate package fmpeg", "Unable to locate package fmpeg"),
        (
            "E: Package 'python2' has no installation candidate",
            "Package 'python2' has no installation candidate",
        ),
        ("refused: its traitlets is 4.3.3", "its traitlets is 4.3.3"),
    ):
        error = failed("returned a non-zero code: 100", "Reading package lists...", line)
        assert isinstance(error, UsageError)
        assert error.message == f"building lab: {words}"
    assert isinstance(failed("code 1", "curl: Connection refused: x"), InfrastructureError)


@pytest.fixture(scope="module")
def overlay() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overlay", FOLDER / "lab" / "overlay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lab_that_has_too_old_a_package_for_the_kernel_is_told(overlay: ModuleType) -> None:
    there = {
        "ipykernel": ("7.4.0", ["traitlets>=5.4.0", "pytest; extra == 'test'", "comm>=0.1"]),
        "comm": ("0.2.3", ["traitlets>=4"]),
        "traitlets": ("4.3.3", ["absent-on-linux; sys_platform == 'win32'"]),
    }
    assert list(overlay.problems("ipykernel", there)) == [
        "its traitlets is 4.3.3, and ipykernel 7.4.0 needs traitlets>=5.4.0"
    ]
    there["traitlets"] = ("5.16.1", ["missing"])
    assert list(overlay.problems("ipykernel", there)) == [
        "its missing is none, and traitlets 5.16.1 needs missing"
    ]


def test_the_lock_is_read_package_by_package(
    overlay: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "LOCK", FOLDER / "lab" / "python.txt")
    lines = overlay.locked()
    assert {"ipykernel", "jupyter-client"} <= {overlay.name_of(line) for line in lines}
    assert all("--hash=sha256:" in line for line in lines)


def test_the_overlay_sees_what_this_python_has(overlay: ModuleType) -> None:
    assert "pytest" in overlay.packages(sys.executable)
    assert all(Path(place).is_dir() for place in overlay.ask(sys.executable, overlay._PLACES))
    assert overlay.pth(["/a", "/b", "/a"]).count("addsitedir") == 2
