"""Files of this machine, read to be put into a sandbox."""

from __future__ import annotations

from pathlib import Path

from runner.errors import UsageError


def files_below(path: Path, place: str) -> tuple[tuple[str, bytes], ...]:
    """Every file of a directory: its path below `place`, and what is in it."""
    return tuple(
        (f"{place}/{file.relative_to(path).as_posix()}", bytes_of(file))
        for file in sorted(path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    )


def bytes_of(path: Path) -> bytes:
    """A file's content; raises UsageError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def text_of(path: Path) -> str:
    """The same, as text in UTF-8."""
    try:
        return bytes_of(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
