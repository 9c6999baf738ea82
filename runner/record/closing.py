"""Ending a record whose run ended without a word."""

from __future__ import annotations

import os
from pathlib import Path

from runner.record.store import Record


def close(path: Path, state: str, reason: str, exit_status: int | None) -> bool:
    """Write the `end` line that nobody has written; False where there is one already.

    A run that was interrupted can still be cancelled. Raises RecordError while
    another process drives the run.
    """
    lock = Record.open(path).take_lock()
    try:
        run = Record.open(path).state()
        if run.is_over and not (run.state == "interrupted" and state != run.state):
            return False
        record = Record.open(path, write=True)
        record.say(
            "end",
            state=state,
            reason=reason,
            bound=None,
            exit_status=exit_status,
            journal=record.journal_mark(),
        )
        record.close()
    finally:
        os.close(lock)
    return True
