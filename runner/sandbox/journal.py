"""The append-only journal of a sandbox: every kernel message, every operation."""

from __future__ import annotations

import asyncio
import json
import os
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.masking import Mask

SCHEMA = 1
WRITE_EVERY_S = 0.05
SYNC_EVERY_S = 1.0


def now() -> str:
    """The time, as every line spells it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Lines on disk, addressed by their sequence number, from 1.

    A line is with the operating system within 50 ms and on disk within a
    second. A restarted server goes on where the file ends; a line that a
    crash cut in two is dropped.
    """

    def __init__(self, path: Path, boot: str, mask: Mask) -> None:
        self.path, self.boot = path, boot
        self.mask = mask
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.failure = ""
        """Why nothing can be written any more; empty while all is well."""
        self._ends = array("Q", [0])
        self._pending: list[bytes] = []
        self._dirty = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        end = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self._ends.append(end)
        os.ftruncate(self._fd, end)

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
        """Write a line down, and tell the listeners."""
        line = {"seq": self.lines + 1, "time": now(), "boot": self.boot, "type": type}
        line |= self.mask.tree(fields)
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._ends.append(self._ends[-1] + len(data))
        if not self._pending:
            asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)
        self._pending.append(data)
        for listener in self.listeners:
            listener(line)
        return line

    def read(self, after: int, limit: int) -> bytes:
        """Whole lines after number `after`, at least one if there is any, about `limit` bytes."""
        self.write()
        first = min(max(after, 0), self.lines)
        last = first
        while last < self.lines and (
            last == first or self._ends[last + 1] - self._ends[first] <= limit
        ):
            last += 1
        data = os.pread(self._fd, self._ends[last] - self._ends[first], self._ends[first])
        return data[: data.rfind(b"\n") + 1]  # after a full disk the last line may be in part

    def line(self, number: int) -> dict[str, Any]:
        """One line by its number."""
        return json.loads(self.read(number - 1, 0))  # type: ignore[no-any-return]

    def write(self) -> None:
        """Hand the pending lines to the operating system. A full disk keeps them for later."""
        if not self._pending:
            return
        data = memoryview(b"".join(self._pending))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
            self._pending, self.failure = [], ""
        except OSError as error:
            self._pending, self.failure = [bytes(data[written:])], str(error)
            asyncio.get_running_loop().call_later(SYNC_EVERY_S, self.write)
        self._dirty = True

    async def keep_synced(self) -> None:
        """Put what was written on disk, every second."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            if self._dirty:
                self._dirty = False
                await asyncio.to_thread(os.fsync, self._fd)

    def close(self) -> None:
        """Write and sync what is left."""
        self.write()
        os.fsync(self._fd)
        os.close(self._fd)
