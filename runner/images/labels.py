"""What an image says of itself in labels, by which an engine is its own catalogue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NAME, CONTENT = "runner.image", "runner.content"
ROLE, FOLDER, ADDED, GPU = "runner.role", "runner.folder", "runner.added", "runner.gpu"
BASE, BASE_NAME = "runner.base", "org.opencontainers.image.base.name"
LOCK, PYTHON, PYTHON_VERSION = "runner.lock", "runner.python", "runner.python-version"
PACKAGES, SYSTEM_PACKAGES = "runner.packages", "runner.system-packages"
TITLE, VERSION = "org.opencontainers.image.title", "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"

_NEEDED = (NAME, CONTENT, ROLE, FOLDER, BASE, LOCK, PYTHON_VERSION)
"""Labels without which an image is none of ours, or one of an earlier version of the runner."""


@dataclass(frozen=True)
class Labels:
    """What is known of an image once it is built."""

    name: str
    role: str
    """`sandbox`, `agent` or `client`."""
    content: str
    """64 hex digits, of which its tag is the beginning."""
    folder: str
    """Of its definition; another one than its name where a lab's image has a name of its own."""
    added: tuple[str, ...]
    """Debian packages besides those of its definition."""
    base: str
    """The base image's id."""
    base_name: str
    lock: str
    """Digest of all its locks."""
    python: str
    """Path of the kernel's Python; of the runner's where there is no kernel."""
    python_version: str
    packages: tuple[str, ...]
    """What that Python has, as `name==version`."""
    system_packages: tuple[str, ...]
    gpu: bool
    version: str
    """The runner's."""
    revision: str | None
    """Commit of the runner's source; None where that had changes."""


def write(labels: Labels) -> dict[str, str]:
    """The labels as an engine takes them."""
    return {
        NAME: labels.name,
        ROLE: labels.role,
        CONTENT: labels.content,
        FOLDER: labels.folder,
        ADDED: " ".join(labels.added),
        BASE: labels.base,
        BASE_NAME: labels.base_name,
        LOCK: labels.lock,
        PYTHON: labels.python,
        PYTHON_VERSION: labels.python_version,
        PACKAGES: " ".join(labels.packages),
        SYSTEM_PACKAGES: " ".join(labels.system_packages),
        GPU: "true" if labels.gpu else "false",
        TITLE: f"runner {labels.name}",
        VERSION: labels.version,
        # Written even where there is none: else it would be the base image's.
        REVISION: labels.revision or "",
    }


def read(said: Mapping[str, str] | None) -> Labels | None:
    """What an engine has as an image's labels; None where the image is none of ours."""
    if not said or any(key not in said for key in _NEEDED):
        return None
    return Labels(
        name=said[NAME],
        role=said[ROLE],
        content=said[CONTENT],
        folder=said[FOLDER],
        added=tuple(said.get(ADDED, "").split()),
        base=said[BASE],
        base_name=said.get(BASE_NAME, ""),
        lock=said[LOCK],
        python=said.get(PYTHON, ""),
        python_version=said[PYTHON_VERSION],
        packages=tuple(said.get(PACKAGES, "").split()),
        system_packages=tuple(said.get(SYSTEM_PACKAGES, "").split()),
        gpu=said.get(GPU) == "true",
        version=said.get(VERSION, ""),
        revision=said.get(REVISION) or None,
    )
