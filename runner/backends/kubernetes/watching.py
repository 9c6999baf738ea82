"""What one thread waits for: several files, each for what matters now, and a call from others."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Bell:
    """Any thread rings it, and it stays rung: who waits for it with a selector wakes up."""

    def __init__(self) -> None:
        """Not rung."""
        self._ear, self._string = socket.socketpair()
        self._ear.setblocking(False)
        self._string.setblocking(False)

    def fileno(self) -> int:
        """For a selector."""
        return self._ear.fileno()

    def ring(self) -> None:
        """Wake who waits; after `close` nobody does."""
        with contextlib.suppress(OSError):  # full: it rings already
            self._string.send(b"!")

    def quiet(self) -> None:
        """Wait for the next ring from now on."""
        with contextlib.suppress(OSError):
            while self._ear.recv(4096):
                pass

    def close(self) -> None:
        """Nobody waits any more."""
        self._ear.close()
        self._string.close()


class Watch:
    """A selector whose files are watched for something else each time, or for nothing."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._selector = selectors.DefaultSelector()
        self._masks: dict[Any, int] = {}

    def __enter__(self) -> Watch:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up the selector; the files stay open."""
        self._selector.close()

    def set(self, file: Any, *, read: bool, write: bool = False) -> None:
        """Watch a file for this from now on."""
        mask = (READ if read else 0) | (WRITE if write else 0)
        known = self._masks.get(file, 0)
        if mask == known:
            return
        if not known:
            self._selector.register(file, mask)
        elif mask:
            self._selector.modify(file, mask)
        else:
            self._selector.unregister(file)
        self._masks[file] = mask

    def wait(self, timeout_s: float) -> dict[Any, int]:
        """The files that are ready, and for what."""
        return {key.fileobj: mask for key, mask in self._selector.select(timeout_s)}
