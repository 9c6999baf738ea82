"""A record as a stream of frames: from where it is written to a copy of it.

A frame is a line of JSON and then as many bytes as its `bytes` says:

    {"lines": "transcript.jsonl", "at": 120, "bytes": 77}   whole lines of a truth file
    {"log": "logs/agent.log", "at": 0, "bytes": 12}         bytes of a file that only grows
    {"file": "outputs/a.png", "at": 0, "of": 9, "mtime_ns": 1, "bytes": 9}   a piece of a file
    {"look": {"over": false, "complete": true}, "bytes": 0}  all that was there at one look was sent
    {"beat": 1, "bytes": 0}                                 nothing new for a while

`again` in a `lines` frame: what the copy has is not how this file begins.
Journal lines come before the transcript lines that speak of them; files come
in pieces, with lines between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from runner import locks
from runner.record.copy import TRUTH, head_at, last_line, whole_bytes
from runner.record.store import WITHHELD, Record
from runner.record.travel import FOLDERS, TRANSCRIPT, files_of

LINES_BYTES = 1 << 20
"""About how much one `lines` frame holds; a line that is longer is sent in one."""
PIECE_BYTES = 1 << 18
LOOK_S, FILES_S, BEAT_S = 0.05, 1.0, 10.0
"""How often lines are looked for, and files; and after how long a silence is broken."""


def frames(
    path: Path,
    have: Mapping[str, Any],
    *,
    follow: bool,
    stop: Callable[[], bool],
    begun: Callable[[], bool] = lambda: True,
) -> Iterator[bytes]:
    """Send what a copy lacks (`RecordCopy.have`); with `follow` go on until the run is over.

    Outputs that were set aside are sent where `have` says `withheld`.

    It is over when the transcript ends with an `end` and nobody drives the run: not before
    who is to drive it has `begun`, as the `end` may be that of an earlier attempt. Ends early
    when `stop()` is true. Raises RecordError where `path` is no record.
    """
    Record.open(path)
    sender, last_look, fresh = _Sender(path, have), False, False
    spoke = time.monotonic()
    next_look = spoke
    while not stop():
        # Before the rest: what is there after it, belongs to it.
        over = (begun() or not follow) and sender.over()
        last = over or not follow
        for frame in sender.lines():
            fresh = True
            yield frame
        if sender.idle and not last_look and (last or time.monotonic() >= next_look):
            sender.look()
            last_look, next_look = last, time.monotonic() + FILES_S
        for frame in sender.pieces():
            fresh = True
            yield frame
        if not sender.idle:
            continue
        if last_look:
            yield _frame({"look": {"over": over, "complete": True}})
            return
        if fresh:
            yield _frame({"look": {"over": False, "complete": False}})
        elif time.monotonic() >= spoke + BEAT_S:
            yield _frame({"beat": 1})
        else:
            time.sleep(LOOK_S)
            continue
        fresh, spoke = False, time.monotonic()


class _Sender:
    """What was sent so far, and what is to be sent."""

    def __init__(self, path: Path, have: Mapping[str, Any]) -> None:
        self._path = path
        self._had = {name: tuple(have.get("truth", {}).get(name, (0, ""))) for name in TRUTH}
        self._sent: dict[str, int] = {}
        self._files = {name: tuple(stamp) for name, stamp in have.get("files", {}).items()}
        self._folders = (*FOLDERS, WITHHELD) if have.get("withheld") else FOLDERS
        self._waiting: list[str] = []
        self._piecewise: Iterator[bytes] | None = None
        self._end: tuple[int, bool] = (-1, False)
        self._seen: dict[str, tuple[int, int]] = {}

    @property
    def idle(self) -> bool:
        """Whether every file that was found is sent."""
        return not self._waiting and self._piecewise is None

    def over(self) -> bool:
        """Whether the run came to an end, and nobody writes any more."""
        size = self._whole(TRANSCRIPT)
        if self._end[0] != size:
            try:
                line = json.loads(last_line(self._path / TRANSCRIPT, size))
            except ValueError:
                line = {}
            self._end = (size, line.get("type") == "end")
        return self._end[1] and not locks.is_held(self._path / ".lock")

    def lines(self) -> Iterator[bytes]:
        """The lines that are there now."""
        # The transcript's size first: what it speaks of is in the journal by then.
        sizes = {name: self._whole(name) for name in reversed(TRUTH)}
        for name in TRUTH:
            again = name not in self._sent and not self._begun(name)
            begin, size = (
                self._sent.setdefault(name, 0 if again else self._had[name][0]),
                sizes[name],
            )
            if begin >= size:
                continue
            with (self._path / name).open("rb") as file:
                file.seek(begin)
                while begin < size:
                    data = _whole_lines(file, size - begin)
                    header: dict[str, Any] = {"lines": name, "at": begin}
                    yield _frame(header | ({"again": True} if again else {}), data)
                    again, begin = False, begin + len(data)
                    self._sent[name] = begin

    def look(self) -> None:
        """Find the files that are new or changed."""
        for name in files_of(self._path, *self._folders):
            with contextlib.suppress(FileNotFoundError):
                stat = (self._path / name).stat()
                known = self._files.get(name, (-1, -1))
                if known[0] != stat.st_size or (known[1] != stat.st_mtime_ns and not _is_log(name)):
                    self._waiting.append(name)
        self._waiting.reverse()

    def pieces(self) -> Iterator[bytes]:
        """Some of what waits: lines may have come meanwhile."""
        end = time.monotonic() + LOOK_S
        while not self.idle:
            if self._piecewise is None:
                self._piecewise = self._file(self._waiting.pop())
            frame = next(self._piecewise, None)
            if frame is None:
                self._piecewise = None
            else:
                yield frame
            if time.monotonic() >= end:
                return

    def _file(self, name: str) -> Iterator[bytes]:
        try:
            file = (self._path / name).open("rb")
        except FileNotFoundError:
            return
        with file:
            stat = os.fstat(file.fileno())
            size, known = stat.st_size, self._files.get(name, (0, 0))[0]
            self._files[name] = (size, stat.st_mtime_ns)
            log = _is_log(name)
            at = known if log and known < size else 0
            file.seek(at)
            while True:
                data = file.read(min(PIECE_BYTES, size - at))
                if len(data) < min(PIECE_BYTES, size - at):
                    self._files.pop(name)  # it was cut short: the next look finds it as it is
                    return
                header = {"log": name} if log else {"file": name, "mtime_ns": stat.st_mtime_ns}
                yield _frame(header | {"at": at, "of": size}, data)
                at += len(data)
                if at >= size:
                    return

    def _begun(self, name: str) -> bool:
        """Whether the copy has the beginning of this file, or nothing."""
        size, head = self._had[name]
        if not size:
            return True
        file = self._path / name
        return self._whole(name) >= size and bool(head_at(file, size) == head)

    def _whole(self, name: str) -> int:
        """Bytes of the whole lines; the file is read only when it has grown."""
        file = self._path / name
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            return 0
        if self._seen.get(name, (-1, 0))[0] != size:
            self._seen[name] = (size, whole_bytes(file))
        return self._seen[name][1]


def _is_log(name: str) -> bool:
    return name.startswith("logs/")


def _whole_lines(file: IO[bytes], most: int) -> bytes:
    """Whole lines, `most` bytes at most, which end with a newline; one line at least."""
    data = file.read(min(LINES_BYTES, most))
    cut = data.rfind(b"\n") + 1
    if cut:
        file.seek(cut - len(data), os.SEEK_CUR)
        return data[:cut]
    return data + file.readline()


def _frame(header: Mapping[str, Any], data: bytes = b"") -> bytes:
    return json.dumps({**header, "bytes": len(data)}).encode() + b"\n" + data
