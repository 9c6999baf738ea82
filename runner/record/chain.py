"""Append-only files whose lines are chained by hash: the truth of a record.

Each line is one JSON object. Its first key, `prev`, is the SHA-256 of the line
before (64 zeros in the first one), so that a line cannot change without all
after it. The hash of the last line is the chain's head.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import InfrastructureError, RecordError

NO_LINE = "0" * 64
"""The head of a chain without lines."""

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on a file's size is reached",
}


@dataclass(frozen=True)
class Link:
    """One whole line of a chain as it stands in the file, numbered from 1."""

    number: int
    head: str  # the chain's head after this line
    line: dict[str, Any]  # empty where it is no JSON object
    problem: str  # "" where it follows from the line before


@dataclass(frozen=True)
class ChainReport:
    """What a walk along a chain found."""

    lines: int
    head: str
    bad: int | None  # number of the first line that does not follow
    problem: str
    torn: bool  # what is after the last whole line: a crash while writing it


def masked(value: Any, mask: Callable[[str], str]) -> Any:
    """Make the value JSON data, `mask` applied to every string and key in it."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(key)): masked(item, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, mask) for item in value]
    return value


def disk_error(path: Path, error: OSError) -> InfrastructureError:
    """Put the error of a write into words."""
    if error.errno in _FULL:
        return InfrastructureError(
            f"{path}: {_FULL[error.errno]}; what was written before is whole",
            hint="make room on that file system, then `runner resume` the run",
        )
    return InfrastructureError(f"{path}: cannot be written: {error.strerror or error}")


class ChainedLog:
    """A chained file, open for appending by one process.

    What a crash left of a half-written last line is moved to `<name>.torn`.
    """

    def __init__(self, path: Path, mask: Callable[[str], str] = lambda text: text) -> None:
        """Open or create the file; `mask` sees every string before it is written.

        Raises InfrastructureError where the file cannot be opened.
        """
        self.path = path
        self._mask = mask
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o644)
            self.lines, self.head, self._size = self._recover()
        except OSError as error:
            raise disk_error(path, error) from error

    def append(self, line: Mapping[str, Any], *, sync: bool = False) -> dict[str, Any]:
        """Write one line, with `sync` down to the disk; returns it as written, masked.

        Raises InfrastructureError when the disk refuses; the file then ends where it did.
        """
        return self._write([line], sync=sync)[0]

    def extend(self, lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write many lines in one go, all or none; returns them as written, masked."""
        return self._write(lines, sync=False)

    def flush(self) -> None:
        """Wait until all of it is on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, lines: Iterable[Mapping[str, Any]], *, sync: bool) -> list[dict[str, Any]]:
        head, raw, written = self.head, [], []
        for line in lines:
            body = masked(line, self._mask)
            body.pop("prev", None)
            text = json.dumps({"prev": head, **body}, separators=(",", ":")).encode()
            head = hashlib.sha256(text).hexdigest()
            raw += [text, b"\n"]
            written.append(body)
        data = b"".join(raw)
        if os.fstat(self._fd).st_size != self._size:
            raise RecordError(
                f"{self.path}: another process wrote to it; this one stops",
                hint="the run goes on elsewhere: `runner status` says where",
            )
        try:
            done = 0
            while done < len(data):  # once, unless the disk fills up: then the next one says so
                done += os.write(self._fd, data[done:])
            if sync:
                os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise disk_error(self.path, error) from error
        self._size += len(data)
        self.lines += len(written)
        self.head = head
        return written

    def _recover(self) -> tuple[int, str, int]:
        """Lines, head and size of the whole lines; what is after them is moved away."""
        lines, size, last = 0, 0, b""
        with self.path.open("rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    with self.path.with_name(self.path.name + ".torn").open("ab") as torn:
                        torn.write(raw + b"\n")
                    os.ftruncate(self._fd, size)
                    break
                lines, size, last = lines + 1, size + len(raw), raw
        return lines, hashlib.sha256(last[:-1]).hexdigest() if lines else NO_LINE, size


def read_lines(
    path: Path, after_byte: int = 0, before_byte: int | None = None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole lines from a byte on, each with the byte to go on from: so a follower tails it.

    A last line that is still being written is left for the next time.
    Raises RecordError where a line is no JSON object.
    """
    offset = after_byte
    with path.open("rb") as file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n") or (before_byte is not None and offset >= before_byte):
                return
            line = _parse(raw)
            if line is None:
                raise RecordError(
                    f"{path}: at byte {offset}: expected a JSON object, found {raw[:60]!r}",
                    hint="`runner verify` says what else was altered",
                )
            offset += len(raw)
            yield line, offset


def links(path: Path) -> Iterator[Link]:
    """Walk along the chain, whole lines only; a file that is not there has none."""
    head = NO_LINE
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            line, problem = _parse(raw), ""
            if line is None:
                problem = "is no JSON object"
            elif not raw.startswith(b'{"prev":"%s"' % head.encode()):
                before = f"line {number - 1}: one of them was altered, or lines are missing"
                problem = f"does not follow from {before if number > 1 else 'an empty chain'}"
            head = hashlib.sha256(raw[:-1]).hexdigest()
            yield Link(number, head, line or {}, problem)


def torn(path: Path) -> bool:
    """Whether the file ends within a line."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def mark(path: Path) -> dict[str, Any]:
    """How many whole lines a file has, and its head, without a look at what they say."""
    lines, last = 0, b""
    if path.exists():
        with path.open("rb") as file:
            for raw in file:
                if raw.endswith(b"\n"):
                    lines, last = lines + 1, raw
    return {"lines": lines, "head": hashlib.sha256(last[:-1]).hexdigest() if lines else NO_LINE}


def check_chain(path: Path) -> ChainReport:
    """Walk along the whole chain and say where it first breaks.

    A change of the last line shows only in the head: compare that with one
    kept elsewhere.
    """
    lines, head, bad, problem = 0, NO_LINE, None, ""
    for link in links(path):
        lines, head = link.number, link.head
        if link.problem and bad is None:
            bad, problem = link.number, link.problem
    return ChainReport(lines, head, bad, problem, torn(path))


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
