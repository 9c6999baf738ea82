"""Writing files into a record: whole or not at all, and never outside of it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.errors import RecordError
from runner.plain import open_plain
from runner.record.chain import disk_error

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
UNFINISHED = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp")
"""The name of a file that is being put, until it is whole."""


def replace(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a file in place of the one there; a reader sees the old one or the new one."""
    put(path.parent, path.name, pieces)


def put(root: Path, path: str, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write `path` below `root`, folders and all; returns its bytes and SHA-256.

    Raises RecordError where the path is no plain relative one or leads through
    a symlink, and InfrastructureError when the disk refuses.
    """
    *folders, name = parts(path)
    try:
        with _folder(root, folders) as folder:
            return _put(folder, name, pieces)
    except OSError as error:
        raise disk_error(root / path, error) from error


def move(source: Path, root: Path, path: str) -> None:
    """Put a whole file of the same file system at `path` below `root`; raises as `put` does."""
    *folders, name = parts(path)
    try:
        with _folder(root, folders) as folder:
            _refuse_symlink(folder, name)
            os.replace(source, name, dst_dir_fd=folder)
    except OSError as error:
        raise disk_error(root / path, error) from error


def remove(root: Path, path: str) -> None:
    """Remove a file below `root`, where there is one; raises as `put` does."""
    *folders, name = parts(path)
    if not (root / path).is_file():
        return
    try:
        with _folder(root, folders) as folder:
            os.unlink(name, dir_fd=folder)
    except OSError as error:
        raise disk_error(root / path, error) from error


def pieces_of(path: Path) -> Iterator[bytes]:
    """Read a plain file piece by piece; RecordError for a symlink or anything else."""
    try:
        file = open_plain(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def unfinished(root: Path) -> Iterator[Path]:
    """What a killed process left of files that it was putting below `root`.

    An output of the run may have such a name too.
    """
    return (file for file in root.rglob(".*.tmp") if UNFINISHED.fullmatch(file.name))


def remove_unfinished(root: Path, kept: Container[Path]) -> None:
    """Remove what a killed process left of files that it was putting below `root`."""
    for file in unfinished(root):
        if file not in kept:
            with suppress(OSError):
                file.unlink()


def sha256_of(path: Path) -> str:
    """Hash a plain file; raises as `pieces_of` does."""
    digest = hashlib.sha256()
    for piece in pieces_of(path):
        digest.update(piece)
    return digest.hexdigest()


def parts(path: str) -> list[str]:
    """The folders and the name of a relative path; RecordError where it is no plain one."""
    found = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in found):
        raise RecordError(f"{path!r}: expected a relative path without '..' that names a file")
    return found


@contextmanager
def _folder(root: Path, folders: list[str]) -> Iterator[int]:
    """Open a folder below `root`, made where missing, step by step past no symlink."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            _refuse_symlink(fd, name)
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(name, dir_fd=fd)
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _put(folder: int, name: str, pieces: Iterable[bytes]) -> tuple[int, str]:
    _refuse_symlink(folder, name)
    part = f".{os.getpid()}.{os.urandom(4).hex()}.tmp"
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(os.open(part, _NEW, 0o644, dir_fd=folder), "wb") as file:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    return size, digest.hexdigest()


def _refuse_symlink(folder: int, name: str) -> None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise RecordError(f"{name}: is a symlink in the record; nothing is written through it")
