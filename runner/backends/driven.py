"""Runs that a script drives: its process writes their records, on its own machine.

Whatever the backend, such a run's record is here and says how it stands; the backend knows of
its sandbox alone.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from runner.backends.base import Status, alone
from runner.errors import RecordError
from runner.record import Record
from runner.record.run import RunState

_CANCEL = ".cancel"
_BEFORE = ("created", "preparing")


def driven(run: RunState) -> bool:
    """Whether a script drives the run, or drove it."""
    return not run.plan.get("agent", True) and not alone(run)


def as_driven(status: Status, path: Path) -> Status:
    """The status of a sandbox whose run a script drives, by its record; another's as it is."""
    if not driven(status.run):
        return status
    record = Record.open(path)
    alive = record.alive()
    # After the look at the lock: a script that has let go of it has written its end before.
    run = record.glance()
    if not alive and not run.is_over:
        run = record.state()
    if run.is_over:
        state, reason, code = run.state, run.reason, run.exit_status
    elif not alive:
        state, reason, code = "interrupted", deserted(run, sandbox=status.sandbox_alive), None
    elif run.state in _BEFORE and status.sandbox_alive:
        return replace(status, run=run, agent_alive=True)
    else:
        gone = "" if status.sandbox_alive else f"its sandbox has ended: {status.reason}"
        state, reason, code = run.state, gone or run.reason, None
    return replace(
        status,
        state=state,
        reason=reason,
        exit_status=code,
        agent_alive=alive,
        run=run,
        mend="",
        since=None,
    )


def deserted(run: RunState, *, sandbox: bool) -> str:
    """How a run stands whose script is gone without a word."""
    where = "its sandbox still runs" if sandbox else "its sandbox has ended"
    return f"its script is gone ({where}); `runner cancel {run.run_id}` keeps what was made"


def tell(record: Record, reason: str, grace_s: float) -> bool:
    """Tell the script to end its run; whether it has, or is gone, within `grace_s` seconds.

    One that does not finds its sandbox gone.
    """
    if not record.alive():
        return True
    (record.path / _CANCEL).write_text(reason)
    try:
        os.close(record.take_lock(grace_s))
    except RecordError:
        return False
    return True


def told(record: Record) -> str:
    """Why the script is to end its run; empty where it is not."""
    try:
        return (record.path / _CANCEL).read_text()
    except FileNotFoundError:
        return ""
