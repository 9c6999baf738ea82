"""The process of a command, with all that it prints."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

PIECE = 64 << 10
"""Characters of output that are told of at once, at most."""
LAST_S = 5.0
"""How long output is waited for when the command has ended."""


class Process:
    """A command that runs until it ends or is ended, and everything that it started with it.

    It reads `given` from its stdin.
    """

    def __init__(
        self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], given: Path
    ) -> None:
        """Start it."""
        ours, self._alive = os.pipe()
        leash = [sys.executable, "-P", "-m", "runner.agent.command.leash", str(ours)]
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
        self._printed: SimpleQueue[tuple[str, str]] = SimpleQueue()
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
        """Ask it to end, and kill what is left of it; none of its processes is there after that."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self.ended(grace_s)
        self._signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._alive)
        for thread in self._reading:
            thread.join(LAST_S)

    def printed(self) -> Iterator[tuple[str, str]]:
        """What it has printed since the last time: stdout or stderr, and whole lines of it."""
        found: dict[str, str] = {}
        with contextlib.suppress(Empty):
            while True:
                stream, text = self._printed.get_nowait()
                if len(found.get(stream, "")) + len(text) > PIECE:
                    yield stream, found.pop(stream, "")
                found[stream] = found.get(stream, "") + text
        yield from found.items()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self, stream: str, pipe: IO[bytes]) -> None:
        decode, rest = codecs.getincrementaldecoder("utf-8")("replace").decode, ""
        while data := os.read(pipe.fileno(), PIECE):
            whole, line_end, rest = (rest + decode(data)).rpartition("\n")
            if line_end:
                self._printed.put((stream, whole + line_end))
            if len(rest) > PIECE:
                self._printed.put((stream, rest))
                rest = ""
        if rest := rest + decode(b"", final=True):
            self._printed.put((stream, rest))
