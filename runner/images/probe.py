"""What a base image has, asked of it before minutes are spent on building."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.images.asking import ask
from runner.images.context import Context

if TYPE_CHECKING:
    from docker import DockerClient

LEAST = (3, 11)
"""The Python that the runner needs."""
_TOO_OLD = {"debian": 12, "ubuntu": 24}
"""The first releases whose own Python is new enough."""
_SCRIPT = """
command -v apt-get >/dev/null && echo apt
[ -r /etc/os-release ] && . /etc/os-release && echo "os $ID $VERSION_ID"
python=$(command -v python3 || command -v python) || exit 0
exec "$python" -c "$1"
"""
# Also for a Python 2, which is to be told that it is too old.
_ASK = """
import json, os, subprocess, sys
said = {"python": sys.executable, "version": sys.version_info[:3]}
try:
    from importlib.metadata import distributions
    from importlib.util import find_spec
    import site
    found = [item for item in distributions() if item.metadata["Name"]]
    own = [i for i in found if str(i.locate_file("")) != "/usr/lib/python3/dist-packages"]
    said["packages"] = sorted({item.metadata["Name"] for item in own})
    said["ensurepip"] = find_spec("ensurepip") is not None
    places = [path for path in site.getsitepackages() if os.path.isdir(path)]
    os.setgroups([])
    os.setgid(1000)
    os.setuid(1000)
    code = "import os, sys; [os.listdir(path) for path in sys.argv[1:]]"
    ended = subprocess.call([sys.executable, "-c", code] + places, stderr=subprocess.DEVNULL)
    said["open"] = ended == 0
except (ImportError, OSError):
    pass
print(json.dumps(said))
"""
_BROUGHT = {"pip", "setuptools", "wheel"}
"""Packages that a Python comes with."""


@dataclass(frozen=True)
class Probe:
    """What a base image has."""

    reference: str
    apt: bool
    system: str
    """Of /etc/os-release: `debian 12`."""
    python: str = ""
    """Path of the first Python on its PATH; empty where there is none."""
    version: tuple[int, ...] = ()
    packages: tuple[str, ...] = ()
    """Names of those that this Python has besides Debian's and its installers."""
    ensurepip: bool = False
    open: bool = False
    """Whether a plain user can start it, and read its packages."""


def probe(client: DockerClient, reference: str) -> Probe:
    """Ask a base image in a container. Raises UsageError for one that runs nothing."""
    said = ask(client, reference, ["/bin/sh", "-c", _SCRIPT, "sh", _ASK], user="0")
    return parse(reference, said.status, said.text, said.errors)


def parse(reference: str, status: int, text: str, errors: str) -> Probe:
    """What the base image said. Pure."""
    lines = text.splitlines()
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    if status and not lines:
        raise UsageError(
            f"the base image {reference} cannot be used: it does not run a shell here: {last}",
            hint="--base IMAGE names one that is Debian, or made from it, for this machine",
        )
    if status:
        raise UsageError(f"the base image {reference} cannot be used: its Python fails: {last}")
    system = next((line[3:] for line in lines if line.startswith("os ")), "")
    found = Probe(reference, "apt" in lines, system)
    if not lines or not lines[-1].startswith("{"):
        return found
    python = json.loads(lines[-1])
    return Probe(
        reference,
        found.apt,
        system,
        python["python"],
        tuple(python["version"]),
        tuple(name for name in python.get("packages", ()) if name not in _BROUGHT),
        python.get("ensurepip", False),
        python.get("open", False),
    )


def check(context: Context, base: Probe) -> None:
    """Raise UsageError where this image cannot be built on this base. Pure."""
    problems = _lab(context, base) if context.facts.keeps_python else _plain(base)
    for words, hint in problems:
        raise UsageError(f"the base image {base.reference} cannot be used: {words}", hint=hint)


def _plain(base: Probe) -> Iterator[tuple[str, str]]:
    yield from _apt(base)
    name, _, release = base.system.partition(" ")
    number = int(release.partition(".")[0]) if release[:1].isdigit() else None
    if base.python:
        yield from _old(base)
    elif number is not None and number < _TOO_OLD.get(name, 0):
        yield (
            f"the Python of {name} {release} is older than {_words(LEAST)}",
            f"{name} {_TOO_OLD[name]} or newer, or a base with a Python of its own, as python:3.12",
        )


def _lab(context: Context, base: Probe) -> Iterator[tuple[str, str]]:
    yield from _apt(base)
    if not base.python:
        yield (
            "there is no python3 on its PATH",
            "--base names the lab's image; in its Dockerfile: ENV PATH=/opt/conda/bin:$PATH",
        )
    yield from _old(base)
    if not base.open:
        yield (
            f"runs work as uid 1000, which cannot use {base.python} and its packages",
            "install it outside of /root, and readable for all: chmod -R a+rX",
        )
    if not base.ensurepip and "python3-venv" not in context.system_packages:
        yield (
            f"{base.python} makes no virtual environments: it has no ensurepip",
            "where it is Debian's: --add python3-venv",
        )


def _apt(base: Probe) -> Iterator[tuple[str, str]]:
    if not base.apt:
        yield (
            f"it has no apt-get{f', it is {base.system}' if base.system else ''}",
            "a base has to be Debian or Ubuntu, or made from one of these",
        )


def _old(base: Probe) -> Iterator[tuple[str, str]]:
    if base.version < LEAST:
        yield (
            f"its {base.python} is {_words(base.version)}, and the runner needs {_words(LEAST)}",
            f"put a Python of {_words(LEAST)} or newer first on its PATH",
        )


def _words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
