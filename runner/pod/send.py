"""`runner.pod send [--follow]`: the record to stdout, as runner.record.stream has it.

The first line of stdin says in JSON what the client has (`RecordCopy.have`).
With `--follow` it goes on until the run is over; until stdin ends; or until
nothing has come on stdin for `SILENCE_S`: a client that is gone may leave the
connection open.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from runner import locks
from runner.errors import RecordError, UsageError
from runner.pod import layout
from runner.record.stream import frames
from runner.record.travel import TRANSCRIPT

NO_RECORD = 4
"""Exit status where there is no record."""
SILENCE_S = 60.0
SENDERS = layout.TMP / "senders"
"""Locked (shared) by every `send --follow`, so that the agent's container can wait for them."""

BEGUN = layout.TMP / "begun"
"""There as soon as this container's agent has had the record's lock."""


def main(arguments: list[str]) -> int:
    """Send until there is nothing more to send."""
    if arguments not in ([], ["--follow"]):
        raise UsageError(f"runner.pod send: expected nothing or --follow, found {arguments}")
    with known(SENDERS) if arguments else contextlib.nullcontext():
        return send(layout.RECORD, sys.stdin.buffer, sys.stdout.buffer, follow=bool(arguments))


def send(
    path: Path, source: IO[bytes], target: IO[bytes], *, follow: bool, begun: Path = BEGUN
) -> int:
    """Send what the reader of `target` lacks; returns the exit status."""
    have = _have(source.readline())
    if not (path / TRANSCRIPT).is_file():
        print(f"{path}: has no record of a run", file=sys.stderr)  # noqa: T201 - for the client
        return NO_RECORD
    heard = _Heard(source)
    stop = heard.gone if follow else lambda: False
    if follow:
        heard.start()
    try:
        for frame in frames(path, have, follow=follow, stop=stop, begun=begun.exists):
            target.write(frame)
            target.flush()
    except BrokenPipeError:
        # The reader has gone, and Python would say so once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())
    return 0


def wait_for_senders(deadline_s: float, lock: Path = SENDERS) -> bool:
    """Wait until those who follow have the last lines; False when some have not by then.

    For the last moment of the agent's container, which ends whatever runs in
    it; they end by themselves when nobody holds the record's lock any more.
    """
    fd = locks.hold(lock, deadline_s)
    if fd is None:
        return False
    os.close(fd)
    return True


def _have(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise RecordError(
            f"runner.pod send: expected JSON on stdin's first line, found {line[:60]!r}"
        ) from error


class _Heard:
    """Whether the client is still there."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._last = time.monotonic()
        self._ended = False

    def start(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def gone(self) -> bool:
        return self._ended or time.monotonic() > self._last + SILENCE_S

    def _listen(self) -> None:
        while os.read(self._source.fileno(), 1 << 12):
            self._last = time.monotonic()
        self._ended = True


@contextlib.contextmanager
def known(lock: Path) -> Iterator[None]:
    """Note that somebody follows; `wait_for_senders` waits for the end of the context."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
