"""`runner.pod receive`: a record from stdin, a tar archive, into the store.

Its transcript takes its place last. A record that is there is only ever
continued; one that somebody writes is left alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from runner import locks
from runner.errors import RecordError
from runner.pod import layout
from runner.record import Record
from runner.record.travel import TRANSCRIPT, unpack

LOCK_S = 1.0
"""How long who merely looks may hold the record's lock."""
RECEIVING = ".receiving.lock"
RECEIVING_S = 120.0
"""How long another client may take that brings the same record, in a pod of its own."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Receive one record."""
    receive(sys.stdin.buffer, layout.RECORD)
    return 0


def receive(archive: IO[bytes], path: Path) -> None:
    """Put the record of the archive into the directory `path`.

    Raises RecordError where another record is there, or somebody writes this one.
    """
    path.mkdir(parents=True, exist_ok=True)
    receiving = locks.hold(path / RECEIVING, RECEIVING_S)
    if receiving is None:
        raise RecordError(f"{path}: another client brings this record, for {RECEIVING_S:g} s now")
    try:
        _receive(archive, path)
    finally:
        os.close(receiving)


def _receive(archive: IO[bytes], path: Path) -> None:
    lock = Record.open(path).take_lock(LOCK_S) if (path / TRANSCRIPT).exists() else None
    try:
        unpack(archive, path)
    finally:
        if lock is not None:
            os.close(lock)
