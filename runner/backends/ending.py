"""Ending a run whose agent, or script, does not end it itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from runner.agent.puller import Puller
from runner.agent.worker import interrupt_all
from runner.errors import RunnerError
from runner.record import Record
from runner.session import Endpoint, Session

CANCELLED = 130
REASON = "cancelled by the user"
LOCK_S = 5.0
COLLECT_RECONNECT_S = 1.0

Reached = Callable[[], AbstractContextManager[Endpoint]]
"""A way to the sandbox, where it is still there."""


def write_end(record: Record, reached: Reached | None, words: str = "") -> bool:
    """Collect what the sandbox still has, and write the end that nobody has written.

    False where there is one already. Raises RecordError while somebody drives the run.
    """
    lock = record.take_lock(LOCK_S)
    try:
        run = record.state()
        if run.is_over and run.state != "interrupted":
            return False
        writing = Record.open(record.path, write=True)
        collect = reached if run.sandboxes else None
        reasons = [REASON, *([words] if words else []), *_collected(collect, writing)]
        journal = writing.journal_mark()
        writing.say(
            "end",
            state="cancelled",
            reason="; ".join(reasons),
            bound=None,
            exit_status=CANCELLED,
            journal=journal,
        )
        writing.close()
    finally:
        os.close(lock)
    return True


def _collected(reached: Reached | None, record: Record) -> list[str]:
    """Pull journal and outputs from a sandbox whose agent is gone; in words what went wrong."""
    if reached is None:
        return []
    with contextlib.ExitStack() as opened:
        try:
            endpoint = opened.enter_context(reached())
            session = opened.enter_context(Session(endpoint, reconnect_s=COLLECT_RECONNECT_S))
            interrupt_all(session)
            return [f"not collected: {trouble}" for trouble in Puller(session, record).finish()]
        except RunnerError as error:
            return [f"not everything was collected: {error.message}"]
