"""Which of the packages that an experiment asks for an image's Python has. No network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.version import Version


@dataclass(frozen=True)
class Pins:
    """All that a kernel's Python will have, and what of it the image has, as `name==version`.

    Names are as PEP 503 has them, and in order.
    """

    all: tuple[str, ...]
    image: tuple[str, ...]


def missing(packages: Iterable[str], there: Sequence[str], python: str) -> tuple[str, ...]:
    """Those of the packages that what is there does not satisfy, or that only uv can judge.

    `there` are `name==version`, `python` is the version of the Python that has them.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    versions = _versions(there)
    left = []
    for package in packages:
        try:
            wanted = Requirement(package)
        except InvalidRequirement:
            left.append(package)
            continue
        if not _satisfied(wanted, versions, python):
            left.append(package)
    return tuple(left)


def together(new: Iterable[str], there: Sequence[str]) -> Pins:
    """The image's packages and those beside them.

    A pin of `new` for what the image has is the image's own one: uv knows nothing of the
    local part of a version (`+cu128`).
    """
    image = {_name(line): f"{_name(line)}=={line.partition('==')[2]}" for line in there}
    beside = {name: pin for pin in new if (name := _name(pin)) not in image}
    return Pins(
        all=tuple(pin for _, pin in sorted({**image, **beside}.items())),
        image=tuple(pin for _, pin in sorted(image.items())),
    )


def held(pins: Iterable[str], there: Sequence[str]) -> tuple[str, ...]:
    """Those of the pins that are there in just this version."""
    versions = {(_name(line), line.partition("==")[2]) for line in there}
    return tuple(pin for pin in pins if (_name(pin), pin.partition("==")[2]) in versions)


def _satisfied(wanted: Requirement, versions: Mapping[str, Version], python: str) -> bool:
    from packaging.utils import canonicalize_name

    if wanted.marker and not wanted.marker.evaluate(_environment(python)):
        return True
    if wanted.url or wanted.extras:  # what an extra needs is in the package's metadata only
        return False
    version = versions.get(canonicalize_name(wanted.name))
    return version is not None and wanted.specifier.contains(version, prereleases=True)


def _environment(python: str) -> dict[str, str]:
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_version": python,
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }


def _versions(there: Iterable[str]) -> dict[str, Version]:
    from packaging.version import InvalidVersion, Version

    found = {}
    for line in there:
        try:
            found[_name(line)] = Version(line.partition("==")[2].strip())
        except InvalidVersion:  # installed from a repository or a file
            continue
    return found


def _name(line: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(line.split("==")[0].split("@")[0].strip())
