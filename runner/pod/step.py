"""An init container that prepares: what keeps it from its work ends the run, not the pod.

A failure is written down as a failed phase and the container ends with status 0, so that
the agent starts, sees the phase, and ends the run in the record without any client.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from runner.errors import RunnerError
from runner.phases import PhaseLog, failed, read_phases
from runner.plan import RunPlan
from runner.pod import layout

LONGEST = 4000
"""Characters of a termination message; the kubelet cuts off what is after 4096 bytes."""

Work = Callable[[RunPlan, PhaseLog, float], None]
"""Gets the plan, where to note phases, and the monotonic time by which it has to be done."""


def run(
    name: str,
    work: Work,
    *,
    plan: Path = layout.PLAN,
    phases: Path = layout.PHASES,
    termination: Path = layout.TERMINATION,
) -> int:
    """Do the work of phase `name`, unless an earlier one failed; always returns 0."""
    log = PhaseLog(phases)
    if earlier := failed(read_phases(phases)):
        say(f"{name} is left out: {earlier.name} failed")
        return 0
    try:
        planned = RunPlan.model_validate_json(plan.read_bytes())
        work(planned, log, time.monotonic() + _left_s(planned, phases))
    except Exception as error:
        words = _words(error)
        if failed(read_phases(phases)) is None:
            log.fail(name, words)
        say(f"{name} failed: {words}")
        end(f"{name} failed: {words}", termination)
    return 0


def end(words: str, termination: Path = layout.TERMINATION) -> None:
    """Leave the container's last words, which `kubectl describe pod` shows."""
    try:
        termination.write_bytes(words.encode()[:LONGEST])
    except OSError as error:
        say(f"{termination}: {error.strerror}")


def say(words: str) -> None:
    """A line in the container's log, or more of them."""
    print(f"{datetime.now(UTC):%H:%M:%SZ} {words}", file=sys.stderr, flush=True)  # noqa: T201 - that is where the log is read from


def _left_s(plan: RunPlan, phases: Path) -> float:
    """Seconds left for preparing, which began with the first phase of this pod."""
    began = next((phase.started for phase in read_phases(phases)), None)
    spent = datetime.now(UTC) - datetime.fromisoformat(began) if began else None
    return plan.prepare_deadline_s - (spent.total_seconds() if spent else 0.0)


def _words(error: Exception) -> str:
    if isinstance(error, RunnerError):
        return str(error)
    if not isinstance(error, OSError):
        traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"
