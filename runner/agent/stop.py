"""What ends a run from outside, seen wherever the agent waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

import tenacity

LOOK_S = 0.1
"""How soon a stop is seen."""
CROWDED_S = 60.0
"""How long a machine or pod that has no room for another thread is borne with: a cell that starts
processes without end fills it."""
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: str
    reason: str
    exit_status: int
    bound: str | None = None


class Stopped(Exception):
    """Somebody ended the run while it waited; carries the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Stop:
    """Set from a signal handler; looked at wherever the loop waits."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def wait_for(
        self, work: Callable[[], T], end: float, meanwhile: Callable[[], None] = lambda: None
    ) -> T:
        """Run `work` on a thread and wait for it, calling `meanwhile` now and then.

        Raises Stopped when the run is stopped, or when the monotonic clock has
        passed `end`; RuntimeError when there is no room for a thread. The thread
        goes on after a stop, so `work` must write nothing down.
        """
        self.check(end)
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        self._begin(run, end)
        while not wait([future], LOOK_S).done:
            meanwhile()
            self.check(end)
        meanwhile()
        return future.result()

    def _begin(self, run: Callable[[], None], end: float) -> None:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RuntimeError),
            wait=tenacity.wait_fixed(LOOK_S),
            stop=tenacity.stop_after_delay(CROWDED_S),
            reraise=True,
        ):
            with attempt:
                self.check(end)
                threading.Thread(target=run, daemon=True).start()

    def check(self, end: float) -> None:
        """Raise Stopped when the run is stopped, or the monotonic clock has passed `end`."""
        if self.outcome is not None:
            raise Stopped(self.outcome)
        if time.monotonic() > end:
            raise Stopped(Outcome("timeout", "the run's time was over", 124))
