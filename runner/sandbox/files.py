"""Files of the workspace: paths that cannot leave it, listings, archives."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from runner import archives
from runner.masking import Mask

CHUNK = 1 << 20


class PathRefused(Exception):
    """The path leads out of the workspace."""


def within(workspace: Path, path: str, readable: tuple[Path, ...] = ()) -> Path:
    """The real place of a workspace path, links followed.

    Raises PathRefused for one that ends outside of the workspace and of the
    directories that may be read beside it, or that no system can look up.
    """
    if "\0" in path:
        raise PathRefused("a path cannot hold a NUL character")
    root = workspace.resolve()
    try:
        real = (root / path).resolve()
        real.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise PathRefused(f"{path}: {getattr(error, 'strerror', None) or 'a loop'}") from None
    if any(real.is_relative_to(place.resolve()) for place in (root, *readable)):
        return real
    raise PathRefused(f"{path} leads out of the workspace")


def listing(
    root: Path, top: Path, mask: Mask, *, recursive: bool, limit: int
) -> list[dict[str, Any]]:
    """What is under `top`, names relative to `root`, sorted; links are told, not followed.

    A name that holds a known secret value is masked, and its type is "secret".
    """
    found: list[dict[str, Any]] = []
    for directory, folders, names in os.walk(top):
        folders.sort()
        shown = [*names, *(_links(directory, folders) if recursive else folders)]
        for name in sorted(shown):
            path = Path(directory, name)
            try:
                info = path.lstat()
            except OSError:
                continue
            relative = str(path.relative_to(root))
            shown_as = mask(relative)
            found.append(
                {
                    "path": shown_as,
                    "type": _type(info.st_mode) if shown_as == relative else "secret",
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
    masked = mask.byte_stream()
    for data in whole(path):
        if data := masked.feed(data):
            yield data
    if data := masked.flush():
        yield data


def holds_secret(path: Path, mask: Mask) -> bool:
    """Whether a known secret value is in the file, as `read` would find it."""
    masked = mask.byte_stream()
    for data in whole(path) if mask else ():
        masked.feed(data)
        if masked.found:
            return True
    masked.flush()
    return masked.found


def whole(path: Path) -> Iterator[bytes]:
    """The file in pieces, as it is."""
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


def pack(top: Path, mask: Mask, spool_in: Path, apart: Collection[Path] = ()) -> Iterator[bytes]:
    """A tar of a directory or a file, in pieces; links stay links, secret values are masked.

    What is at one of the paths `apart`, or below, is left out.
    Nothing is kept but, in `spool_in`, one masked file at a time: a tar says
    how long a file is before it.
    """
    paths = [top, *_below(top, apart)] if top.is_dir() else [top]
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as maker:
        for path in paths:
            name = mask(path.relative_to(top).as_posix() if top.is_dir() else top.name)
            try:
                info = maker.gettarinfo(path, name)
            except OSError:  # gone meanwhile
                continue
            if info is None:  # a socket
                continue
            if info.islnk():  # a second name of a file: all its bytes again
                info.type, info.linkname = tarfile.REGTYPE, ""
                info.size = path.stat().st_size
            if info.isreg():
                yield from _packed(path, info, mask, spool_in)
            elif info.isdir() or info.issym():
                yield info.tobuf()
    yield bytes(2 * tarfile.BLOCKSIZE)


def _below(top: Path, apart: Collection[Path]) -> Iterator[Path]:
    for at, dirs, names in os.walk(top):
        dirs[:] = [name for name in dirs if Path(at, name) not in apart]
        yield from (path for name in dirs + names if (path := Path(at, name)) not in apart)


def _packed(path: Path, info: tarfile.TarInfo, mask: Mask, spool_in: Path) -> Iterator[bytes]:
    with contextlib.ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
        except OSError:  # gone meanwhile, or not ours to read
            return
        if mask:
            spool = stack.enter_context(tempfile.TemporaryFile(dir=spool_in))
            spool.writelines(read(path, mask))
            info.size = spool.tell()
            spool.seek(0)
            file = spool
        yield info.tobuf()
        left = info.size
        while left and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data
        # A file that shrank meanwhile is filled up: its length has been told.
        while left:
            yield bytes(min(CHUNK, left))
            left -= min(CHUNK, left)
        yield bytes(-info.size % tarfile.BLOCKSIZE)


def check(archive: Path, into: Path) -> None:
    """Refuse a tar that would leave `into`, before anything of it is extracted.

    Raises PathRefused for members that are no plain files, directories or
    links inside `into`, tarfile.TarError for what is no tar.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            if words := archives.leads_out(member, into):
                raise PathRefused(words)


def unpack(archive: Path, into: Path) -> None:
    """Extract a tar that `check` let pass."""
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        archives.extract(tar, into, tar)


def place(source: Path, target: Path) -> None:
    """Move an uploaded file to its place, so that nobody sees half of it.

    Raises OSError, also for a target that is a directory.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source.chmod(0o644)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
