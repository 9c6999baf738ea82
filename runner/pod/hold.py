"""`runner.pod hold [SECONDS]`: keeps the store's pod for clients, and ends when none comes.

What a client runs in the container is a process of its own there; for as long
as one lives, and for SECONDS after the last, the pod stays.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runner.errors import UsageError
from runner.signals import accept_sigterm

LOOK_S = 0.5
IDLE_S = 30.0


def main(arguments: list[str]) -> int:
    """Hold until nobody came for the given seconds, or until SIGTERM."""
    try:
        (seconds,) = (float(argument) for argument in arguments or [str(IDLE_S)])
    except ValueError as error:
        raise UsageError(f"runner.pod hold: expected SECONDS, found {arguments}") from error
    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    accept_sigterm()
    hold(seconds, leave, others)
    return 0


def hold(seconds: float, leave: threading.Event, busy: Callable[[], bool]) -> None:
    """Return when `busy()` was false for so long, or when told to leave."""
    end = time.monotonic() + seconds
    while not leave.wait(LOOK_S):
        if busy():
            end = time.monotonic() + seconds
        elif time.monotonic() >= end:
            return


def others(proc: Path = Path("/proc")) -> bool:
    """Whether the container has a process that is neither this one, its parent, nor a zombie."""
    ours = {os.getpid(), os.getppid()}
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) not in ours:
            try:
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except (OSError, IndexError):  # it has ended meanwhile
                continue
            if state != "Z":
                return True
    return False
