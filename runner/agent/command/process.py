"""The process of a command, with all that it prints."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import IO

READ = 64 << 10
"""Bytes that are read at once."""
LINE = 4 << 20
"""Characters after which a line is cut."""
WAITING = 32
"""Pieces that wait to be written down, at most: then the command waits as well."""
LOOK_S = 0.1
LEASH = str(Path(__file__).with_name("leash.py"))
"""A file of its own, which imports nothing of the runner: it is there as long as the command."""


class Process:
    """A command that runs until it ends or is ended, with its process group.

    It reads `given` from its stdin.
    """

    def __init__(
        self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], given: Path
    ) -> None:
        """Start it."""
        ours, self._alive = os.pipe()
        leash = [sys.executable, "-I", LEASH, str(ours)]
        try:
            with given.open("rb") as stdin:
                self._process = subprocess.Popen(
                    [*leash, *command],
                    cwd=folder,
                    env=env,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(ours,),
                    start_new_session=True,
                )
        finally:
            os.close(ours)
        self._printed: Queue[tuple[str, str]] = Queue(WAITING)
        pipes = {"stdout": self._process.stdout, "stderr": self._process.stderr}
        self._reading = [
            threading.Thread(target=self._read, args=pair, name=pair[0], daemon=True)
            for pair in pipes.items()
        ]
        for thread in self._reading:
            thread.start()

    def ended(self, wait_s: float) -> int | None:
        """Its exit status, if it ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_s)
        return None

    def end(self, grace_s: float) -> None:
        """Ask it to end, and kill what is left of its process group."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self.ended(grace_s)
        self._signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._alive)

    def prints(self, end: float) -> bool:
        """Whether something may come of it yet, until the monotonic clock passes `end`.

        What has left its process group may hold its pipes open.
        """
        for thread in self._reading:
            thread.join(min(LOOK_S, max(end - time.monotonic(), 0.0)))
        going = any(thread.is_alive() for thread in self._reading)
        return not self._printed.empty() or (going and time.monotonic() < end)

    def printed(self) -> Iterator[tuple[str, str]]:
        """What it has printed since the last time: stdout or stderr, and whole lines of it."""
        found: dict[str, str] = {}
        for _ in range(self._printed.qsize()):
            stream, text = self._printed.get_nowait()
            found[stream] = found.get(stream, "") + text
        yield from found.items()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self, stream: str, pipe: IO[bytes]) -> None:
        decode, rest = codecs.getincrementaldecoder("utf-8")("replace").decode, ""
        while data := os.read(pipe.fileno(), READ):
            whole, line_end, rest = (rest + decode(data)).rpartition("\n")
            if line_end:
                self._printed.put((stream, whole + line_end))
            if len(rest) > LINE:
                self._printed.put((stream, rest))
                rest = ""
        if rest := rest + decode(b"", final=True):
            self._printed.put((stream, rest))
