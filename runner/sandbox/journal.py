"""The append-only journal of a sandbox: every kernel message, every operation."""

from __future__ import annotations

import asyncio
import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.masking import Mask

SCHEMA = 1
WRITE_EVERY_S = 0.05
SYNC_EVERY_S = 1.0
WRITE_AT = 1 << 20
"""Bytes in memory that are written at once."""
HOLD_AT_MOST = 32 << 20
"""Bytes in memory, on a full disk, at which whoever produces lines has to wait."""
BREATHE_S = 0.005
"""How long a flood of lines may keep the event loop to itself."""


def now() -> str:
    """The time, as every line spells it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Lines on disk, addressed by their sequence number, from 1.

    A line is with the operating system within 50 ms and on disk within a
    second. While the disk is full, lines wait in memory and can be read; no
    more than `HOLD_AT_MOST` bytes of them, see `pace`. A restarted server
    goes on where the file ends; what a crash left in part is dropped.
    `on_line` is called after each append.
    """

    def __init__(self, path: Path, boot: str, mask: Mask, on_line: Callable[[], None]) -> None:
        self.path, self.boot, self.mask = path, boot, mask
        self.failure = ""
        """Why nothing can be written any more; empty while all is well."""
        self._on_line = on_line
        self._ends = array("Q", [0])
        self._pending: list[bytes] = []
        self._due: asyncio.TimerHandle | None = None
        self._dirty = False
        self._breathed = 0.0
        self._room = asyncio.Event()
        self._room.set()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"}\n"):
                    break
                self._ends.append(self._ends[-1] + len(line))
        self._written = self._ends[-1]
        os.ftruncate(self._fd, self._written)

    @property
    def lines(self) -> int:
        """How many lines there are; the last line's number."""
        return len(self._ends) - 1

    def replay(self) -> Iterator[dict[str, Any]]:
        """Every line that is on disk, in order."""
        with self.path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def append(self, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002
        """Write a line down; returns it as it was written, secrets masked."""
        line = {"seq": self.lines + 1, "time": now(), "boot": self.boot, "type": type}
        line |= self.mask.tree(fields)
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._ends.append(self._ends[-1] + len(data))
        self._pending.append(data)
        if self._ends[-1] - self._written >= WRITE_AT and not self.failure:
            self.write()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)
        self._on_line()
        return line

    def read(self, after: int, limit: int, last: int | None = None) -> bytes:
        """Whole lines after number `after`, up to `last`, about `limit` bytes.

        At least one, if there is any.
        """
        first = min(max(after, 0), self.lines)
        end = bisect_right(self._ends, self._ends[first] + limit) - 1
        end = min(max(end, first + 1), self.lines if last is None else last)
        return self._bytes(self._ends[first], self._ends[max(first, end)])

    def write(self) -> None:
        """Hand the pending lines to the operating system. A full disk keeps them for later."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if not self._pending:
            return
        data = memoryview(b"".join(self._pending))
        try:
            while data:
                written = os.write(self._fd, data)
                self._written += written
                data = data[written:]
            self._pending, self.failure = [], ""
        except OSError as error:
            self._pending, self.failure = [bytes(data)], str(error)
            self._due = asyncio.get_running_loop().call_later(SYNC_EVERY_S, self.write)
        self._dirty = True
        if self._ends[-1] - self._written >= HOLD_AT_MOST:
            self._room.clear()
        else:
            self._room.set()

    async def pace(self) -> None:
        """Wait where lines come faster than they can be kept; let others run meanwhile.

        A kernel whose messages are not read, and a command whose pipe is not,
        wait too: so a full disk stops them and costs no line.
        """
        if self._ends[-1] - self._written >= HOLD_AT_MOST:
            self.write()
            await self._room.wait()
        time = asyncio.get_running_loop().time()
        if time - self._breathed > BREATHE_S:
            await asyncio.sleep(0)
            self._breathed = asyncio.get_running_loop().time()

    async def keep_synced(self) -> None:
        """Put what was written on disk, every second."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            if self._dirty:
                self._dirty = False
                try:
                    await asyncio.to_thread(os.fsync, self._fd)
                except OSError as error:
                    self._dirty, self.failure = True, str(error)

    def close(self) -> None:
        """Write and sync what is left."""
        self.write()
        if self._due is not None:
            self._due.cancel()
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def _bytes(self, start: int, end: int) -> bytes:
        """A part of the file, of which the end may still be in memory."""
        data = b""
        if start < self._written:
            data = os.pread(self._fd, min(end, self._written) - start, start)
        if end > self._written:
            pending = b"".join(self._pending)
            data += pending[max(0, start - self._written) : end - self._written]
        return data
