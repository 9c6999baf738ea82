"""`runner.pod remove`: empties the run's directory of the record store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runner.pod import layout
from runner.record import Record
from runner.record.chain import disk_error
from runner.record.travel import TRANSCRIPT

LOCK_S = 1.0
"""How long who merely looks may hold the record's lock."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Remove the record."""
    remove(layout.RECORD)
    return 0


def remove(path: Path) -> None:
    """Remove all that is in the directory `path`, which is a mount point and stays.

    Raises RecordError while somebody drives the run.
    """
    lock = Record.open(path).take_lock(LOCK_S) if (path / TRANSCRIPT).exists() else None
    try:
        # The transcript first: without it there is no record, whatever else is left.
        (path / TRANSCRIPT).unlink(missing_ok=True)
        for entry in path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if lock is not None:
            os.close(lock)
