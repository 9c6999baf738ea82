"""The processes of a local run, by the part that they play in it."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil
from tiny_runs import Run, processes_of

PARTS = ("worker", "supervisor", "agent", "kernel", "server", "init", "sandbox")
"""`agent` is worker and supervisor, `sandbox` all that runs beside the workspace, at one blow."""
_WORDS = {
    "kernel": "kernel_main.py",
    "server": "runner.sandbox",
    "init": "runner.backends.local.init",
    "supervisor": "runner.agent",
}


def find(run: Run, part: str) -> list[psutil.Process]:
    """The processes of a part that are there now."""
    found: dict[str, list[psutil.Process]] = {name: [] for name in (*_WORDS, "worker")}
    for process in processes_of(run.root):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            for name, word in _WORDS.items():
                if any(word == given or given.endswith(f"/{word}") for given in words):
                    # The supervisor is told of its options alone.
                    worker = name == "supervisor" and words.index(word) < len(words) - 2
                    found["worker" if worker else name].append(process)
    if part == "agent":
        return found["supervisor"] + found["worker"]
    if part == "sandbox":
        return found["init"] + found["server"] + found["kernel"]
    return found[part]


def strike(run: Run, part: str, number: signal.Signals) -> list[int]:
    """Signal a part, whatever of it is there; returns the ids of its processes."""
    struck = []
    for process in find(run, part):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
            struck.append(process.pid)
    return struck
