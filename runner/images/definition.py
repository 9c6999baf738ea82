"""The folders of images and the runner's own source, read from disk."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import runner
from runner.errors import UsageError
from runner.images.context import Context, Facts

PACKAGE = Path(runner.__file__).parent
FOLDER = PACKAGE.parent / "images"
FACTS = "image.toml"
_SENT = ("Dockerfile", "*.txt", "*.py")
"""What of a folder the engine is sent; its other files are for people."""


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The images that are defined there."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: there is no such directory, and the images are defined there",
            hint="run it in a clone of the runner's repository, installed with `pip install -e`",
        )
    return tuple(sorted(path.parent.name for path in folder.glob("*/Dockerfile")))


def read(wanted: Sequence[str] = (), folder: Path = FOLDER) -> list[Context]:
    """The images of these names, for none those that are built by default.

    Raises UsageError for one that is not there.
    """
    known = names(folder)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"there is no image {name!r} in {folder}", hint=f"one of {', '.join(known)}"
            )
    source = _source()
    found = [_read(folder / name, source) for name in dict.fromkeys(wanted or known)]
    return [context for context in found if wanted or context.facts.default]


def _read(folder: Path, source: dict[str, bytes]) -> Context:
    files = {path.name: path.read_bytes() for shape in _SENT for path in folder.glob(shape)}
    try:
        facts = Facts(**tomllib.loads((folder / FACTS).read_text("utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder / FACTS}: {error}",
            hint="its `role` is sandbox, agent or client; a sandbox says `python` and `gpu`",
        ) from error
    return Context(folder.name, facts, runner.__version__, files, source)


def _source() -> dict[str, bytes]:
    return {
        f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def revision() -> str | None:
    """The commit of the runner's source, where it is a repository without changes."""
    from git import Repo
    from git.exc import GitError

    try:
        with Repo(PACKAGE.parent) as repo:
            return None if repo.is_dirty(untracked_files=True) else repo.head.commit.hexsha
    except (GitError, ValueError):
        return None
