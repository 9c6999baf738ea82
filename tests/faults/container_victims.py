"""The processes of a run in containers, by the part that they play in it.

Containers are processes of this machine, on the engine as on the cluster of the tests, and are
found by their cgroups.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PARTS = ("sandbox", "worker", "server", "agent", "kernel", "supervisor")
"""`sandbox` and `agent` are all of a container at one blow, as cgroup v2's OOM killer ends it."""


@dataclass(frozen=True)
class Seen:
    """A process and what tells where it belongs."""

    process: psutil.Process
    words: Sequence[str]
    cgroup: str

    @property
    def is_kernel(self) -> bool:
        return any(word.endswith("/kernel_main.py") for word in self.words)

    def is_step(self, name: str) -> bool:
        """Whether it is a container's own: its init, the step itself, or a fork of that."""
        return list(self.words[-2:]) == ["runner.pod", name]


def processes(marks: Sequence[str]) -> list[Seen]:
    """Those of which the cgroup is named by one of the marks, in the order in which they began."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            cgroup = Path(f"/proc/{process.pid}/cgroup").read_text()
            if any(mark in cgroup for mark in marks):
                found.append((process.create_time(), Seen(process, process.cmdline(), cgroup)))
    return [seen for _, seen in sorted(found, key=lambda item: item[0])]


def find(marks: Sequence[str], part: str) -> list[psutil.Process]:
    """The processes of a part that are there now."""
    seen = processes(marks)
    last = {
        "kernel": [one for one in seen if one.is_kernel][-1:],
        "worker": [one for one in seen if "runner.agent" in one.words][-1:],
    }
    if child := {"server": "kernel", "supervisor": "worker"}.get(part):
        parents = [one.process.ppid() for one in last[child]]
        return [one.process for one in seen if one.process.pid in parents]
    if part in last:
        return [one.process for one in last[part]]
    whole = {one.cgroup for one in seen if one.is_step(part)}
    return [one.process for one in seen if one.cgroup in whole]


def strike(marks: Sequence[str], part: str) -> list[int]:
    """Kill a part, whatever of it is there; returns the ids of its processes."""
    struck = []
    with contextlib.suppress(psutil.Error):
        for process in find(marks, part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
                struck.append(process.pid)
    return struck
