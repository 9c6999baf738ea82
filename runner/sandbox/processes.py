"""The processes that a sandbox started, and those that they started: all of them end with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "RUNNER_SANDBOX"
"""Environment variable by which they are known, also after they left their process group, or
when the server that started them was killed. Its value is the sandbox's state directory."""
ROUNDS = 5


def end_all(state: Path) -> None:
    """Kill them all. A process that forks while we look is found in the next round."""
    for _ in range(ROUNDS):
        found = list(marked(state))
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not found:
            return
        psutil.wait_procs(found, timeout=0.2)


def marked(state: Path) -> Iterator[psutil.Process]:
    """The processes of the sandbox with this state directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if (
                process.environ().get(MARK) == str(state)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                yield process
