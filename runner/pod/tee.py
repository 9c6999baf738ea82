"""What a process and its children print, into the container's log and into a file besides."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Self

CHUNK = 1 << 16
LAST_S = 2.0
"""How long the end waits for what is still in the pipe: a child that lives on holds it open."""


class Tee:
    """Stands between descriptors 1 and 2 of this process and where they led.

    While the context is open all goes through a pipe; `start` begins to read it, on a
    thread. Whoever forks does so before that. A file that cannot be written to is left out.
    """

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._kept = (os.dup(1), os.dup(2))
        self._pipe, write_end = os.pipe()
        _flush()
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(write_end)
        self._thread = threading.Thread(target=self._copy, name="tee", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _flush()
        for number, kept in enumerate(self._kept, 1):
            os.dup2(kept, number)
        if self._thread.ident is not None:
            self._thread.join(LAST_S)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def _copy(self) -> None:
        # A signal that this thread took would not wake the main one.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        line = b""
        while data := os.read(self._pipe, CHUNK):
            whole, mark, line = (line + data).rpartition(b"\n")
            if len(line) >= CHUNK:
                whole, mark, line = whole + mark + line, b"", b""
            self._write(whole + mark)
        self._write(line)

    def _write(self, data: bytes) -> None:
        for target in (self._kept[0], self._file):
            with contextlib.suppress(OSError):
                rest = data
                while rest:
                    rest = rest[os.write(target, rest) :]


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
