"""SIGTERM must find its handler in place, also when it comes while a process still imports."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_held() -> Iterator[None]:
    """Start processes for which a SIGTERM waits until they call `accept_sigterm`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_sigterm() -> None:
    """Let SIGTERM through, one that came before too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
