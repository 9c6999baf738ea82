"""How the GPUs are used, out of the sandbox and into the record; unused ones end the run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from runner.agent.stop import Outcome
from runner.errors import RunnerError
from runner.record import Record
from runner.session import Session

LOOK_S = 2.0
SAY_EVERY_S = 60.0
"""How often the record is told; it is also as far as a dead agent's record may be behind."""
BOUND = "gpu_idle"
LEAVE_S = 5.0
"""How long the end of a run waits for the last look."""


class GpuWatch:
    """Asks the sandbox on a thread of its own, whatever the model or a tool waits for.

    `session` must not repeat what fails for long. `warn` is told the sandbox's warnings, `end`
    the outcome when the GPUs were unused for too long.
    """

    def __init__(
        self,
        session: Session,
        record: Record,
        warn: Callable[[list[str]], None],
        end: Callable[[Outcome], None],
    ) -> None:
        self._session, self._record, self._warn, self._end = session, record, warn, end
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="gpus", daemon=True)
        self._say_at = 0.0
        self._over = False

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def finish(self) -> None:
        """Look a last time; from now on nothing ends the run, and nothing is written."""
        self._ending.set()
        self._thread.join(LEAVE_S)
        self._over = True

    def _repeat(self) -> None:
        last = False
        while not last:
            last = self._ending.wait(LOOK_S)
            with contextlib.suppress(RunnerError):
                info = self._session.info()
                self._warn(info["warnings"])
                if (gpus := info["gpus"]) and not self._over:
                    self._take(gpus, last=last)

    def _take(self, gpus: dict[str, Any], *, last: bool) -> None:
        if gpus["source"] and (last or time.monotonic() >= self._say_at):
            self._say_at = time.monotonic() + SAY_EVERY_S
            keys = ("count", "source", "used_s", "idle_s")
            self._record.say("gpus", **{key: gpus[key] for key in keys})
        if gpus["over"] and not last:
            self._end(Outcome("bound", gpus["over"], 4, BOUND))
