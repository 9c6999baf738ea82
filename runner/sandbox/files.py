"""Files of the workspace: paths that cannot leave it, listings, archives."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from runner.masking import Mask

CHUNK = 1 << 20


class PathRefused(Exception):
    """The path leads out of the workspace."""


def within(workspace: Path, path: str, readable: tuple[Path, ...] = ()) -> Path:
    """The real place of a workspace path, links followed.

    Raises PathRefused for one that ends outside of the workspace and of the
    directories that may be read beside it.
    """
    if "\0" in path:
        raise PathRefused("a path cannot hold a NUL character")
    root = workspace.resolve()
    real = (root / path).resolve()
    if any(real.is_relative_to(place.resolve()) for place in (root, *readable)):
        return real
    raise PathRefused(f"{path} leads out of the workspace")


def listing(root: Path, top: Path, *, recursive: bool, limit: int) -> list[dict[str, Any]]:
    """What is under `top`, names relative to `root`, sorted; links are told, not followed."""
    found: list[dict[str, Any]] = []
    for directory, folders, names in os.walk(top):
        folders.sort()
        for name in sorted([*folders, *names] if not recursive else names + _links(directory, folders)):
            path = Path(directory, name)
            try:
                info = path.lstat()
            except OSError:
                continue
            found.append(
                {
                    "path": str(path.relative_to(root)),
                    "type": _type(info.st_mode),
                    "bytes": info.st_size,
                    "mtime_ns": info.st_mtime_ns,
                }
            )
            if len(found) >= limit:
                return found
        if not recursive:
            break
    return found


def _links(directory: str, folders: list[str]) -> list[str]:
    return [name for name in folders if Path(directory, name).is_symlink()]


def _type(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def read(path: Path, mask: Mask) -> Iterator[bytes]:
    """The file in pieces, known secret values masked.

    Values are found in the bytes of UTF-8 text; a compressed file may hide one.
    """
    masked = mask.stream()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            # latin-1 maps every byte to one character and back.
            if text := masked.feed(data.decode("latin-1")):
                yield text.encode("latin-1")
    if text := masked.flush():
        yield text.encode("latin-1")


def pack(top: Path, into: IO[bytes]) -> None:
    """A tar of a directory or a file; links stay links."""
    with tarfile.open(fileobj=into, mode="w") as archive:
        archive.add(top, arcname=top.name if top.is_file() else ".")


def unpack(archive: Path, into: Path) -> int:
    """Extract a tar; returns how many members it had.

    Raises tarfile.TarError for members that would leave `into` or are no
    plain files, directories or links (the "data" filter of PEP 706).
    """
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        tar.extractall(into, members=members, filter="data")
    return len(members)


def place(source: Path, target: Path) -> None:
    """Move an uploaded file to its place, at once where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
