"""Ending a record whose run ended without a word, or with half of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runner.errors import RunnerError
from runner.record.files import unfinished
from runner.record.run import to_json
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


def render(record: Record) -> None:
    """Render a record, where who wrote it was killed before that.

    Nothing where somebody drives the run, or the record can only be read here.
    """
    with contextlib.suppress(OSError, RunnerError):
        if record.alive() or not (_behind(record) or any(unfinished(record.path))):
            return
        lock = record.take_lock(0.0)
        try:
            Record.open(record.path, write=True).close()
        finally:
            os.close(lock)


def _behind(record: Record) -> bool:
    journal, notebook = record.path / "journal.jsonl", record.path / "notebook.ipynb"
    if journal.exists() and not (
        notebook.exists() and notebook.stat().st_mtime_ns >= journal.stat().st_mtime_ns
    ):
        return True
    if record.glance().is_over:
        return False
    return (record.path / "run.json").read_bytes() != to_json(record.state()).encode()
