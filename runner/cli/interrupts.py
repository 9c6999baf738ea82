"""Ctrl-C, noted: what is done about it is decided by whoever follows a run."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupts:
    """Notes when Ctrl-C was pressed, by the monotonic clock, instead of being ended by it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._raising = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Let Ctrl-C be a KeyboardInterrupt while the context lasts."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self._raising:
            raise KeyboardInterrupt
        self.times.append(time.monotonic())
