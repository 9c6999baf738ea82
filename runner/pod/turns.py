"""Whose turn it is, where all containers of a run are started at once.

kubelet starts one init container after the other; a Docker engine does not, and the client
may be gone before the first has ended. So each waits for the one before it, by files of the
sandbox's state: NAME.lock, held while its container lives, NAME.begun and NAME.done.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runner import locks
from runner.errors import InfrastructureError
from runner.pod import layout
from runner.pod.told import STEP

AFTER = "RUNNER_AFTER"
"""Names the step before this one; not set where somebody else sees to the order."""
BEGIN_S = 120.0
"""How long a container may take to be started after another one was."""
LOOK_S, LONGEST_LOOK_S = 0.02, 0.25
"""How often it is looked, less often the longer it takes: many may wait on few cores."""


@contextlib.contextmanager
def turn(step: str, turns: Path = layout.TURNS, agent: Path = layout.AGENT) -> Iterator[None]:
    """Do the step's work in this context: it comes after the step before, and is noted when done.

    The agent, which cannot write there, waits by itself. Raises InfrastructureError as `wait`.
    """
    if os.environ.get(STEP) != step or step == "agent":
        yield
        return
    locks.hold(turns / f"{step}.lock")  # until this process is gone
    (turns / f"{step}.begun").touch()
    if after := os.environ.get(AFTER):
        gone = _Gone(agent)
        wait(after, gone, turns)
        if gone():
            raise InfrastructureError("the agent has ended: nobody needs this container")
    yield
    (turns / f"{step}.done").touch()


class _Gone:
    """Whether the agent, whose lock this is, has come and gone; a sandbox alone has none."""

    def __init__(self, lock: Path) -> None:
        self._lock, self._came = lock, False

    def __call__(self) -> bool:
        held = locks.is_held(self._lock)
        self._came = self._came or held
        return self._came and not held


def wait(step: str, leave: Callable[[], bool] = lambda: False, turns: Path = layout.TURNS) -> None:
    """Wait until the work of a step is done, or `leave()` is true.

    Raises InfrastructureError where its container ended before that, or was never started.
    """
    done = turns / f"{step}.done"
    wait_begun(step, leave, turns)
    pause_s = LOOK_S
    while not done.exists() and not leave():
        if not locks.is_held(lock(step, turns)) and not done.exists():
            raise InfrastructureError(f"the container `{step}` ended before its work was done")
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, LONGEST_LOOK_S)


def wait_begun(step: str, leave: Callable[[], bool], turns: Path = layout.TURNS) -> None:
    """Wait until a step's container was started; raises InfrastructureError if it is not."""
    end = time.monotonic() + BEGIN_S
    while not (turns / f"{step}.begun").exists() and not leave():
        if time.monotonic() > end:
            raise InfrastructureError(
                f"the container `{step}` was never started: the client that starts a run's "
                "containers was killed"
            )
        time.sleep(LOOK_S)


def lock(step: str, turns: Path = layout.TURNS) -> Path:
    """Held while the step's container lives, once it has begun."""
    return turns / f"{step}.lock"
