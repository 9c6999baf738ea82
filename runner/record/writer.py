"""Which pod writes a run's record: the last one that said so.

The lock on a record lasts as long as the process that holds it, and a node that is cut off from
its cluster goes on with its pods. So a pod that comes after another says first that the record is
its own; the other one sees it and leaves without a word in the record, and its lock goes with it.
One that comes back after its lock was lost, as NFS does it to a client that was silent, finds
another's name, or lines that are not its own, which a chained file refuses to go on from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from runner.record.files import replace

NAME = ".writer"
LOOK_S = 0.5
"""How often it is looked whether another one has come."""
LOCK_S = 180.0
"""How long an earlier pod may still hold the lock: that of an NFS client which is silent is lost
after its lease, 90 s where a Linux server was not told otherwise."""
LEFT = 143
"""Exit status of who leaves: that of one who was told to."""


def claim(record: Path, who: str) -> None:
    """Say that the record is this pod's from now on."""
    replace(record / NAME, [who.encode()])


def is_ours(record: Path, who: str) -> bool:
    """Whether no other pod has come since; a store that does not answer says nothing."""
    try:
        return (record / NAME).read_text() == who
    except OSError:
        return True


def watch(record: Path, who: str, leave: Callable[[], object]) -> None:
    """Call `leave` on a thread, once another pod has come."""

    def look() -> None:
        while is_ours(record, who):
            time.sleep(LOOK_S)
        leave()

    threading.Thread(target=look, name="writer", daemon=True).start()
