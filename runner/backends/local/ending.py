"""Ending a local run, with all that it made."""

from __future__ import annotations

import contextlib
import signal

from runner import locks
from runner.backends.ending import REASON
from runner.backends.local import directory, processes
from runner.backends.local.handle import read_handle
from runner.backends.local.paths import Paths
from runner.errors import InfrastructureError
from runner.record import Record

KILL_GRACE_S = 5.0
STARTING_S = 5.0
"""How long a `submit` that is at work has to start its agent, so that it can be told."""


def end_agent(paths: Paths, record: Record, grace_s: float) -> str:
    """Have the agent end the run; returns in words how it had to be made to, if it had to.

    Raises InfrastructureError for one that this machine cannot end.
    """
    if not record.alive():
        return ""
    if not paths.root.is_dir():
        raise InfrastructureError(
            f"the agent of {record.path.name} runs, but not on this machine, or with another "
            "state directory",
            hint="cancel it where it was submitted; the record's `attempt` lines name the host",
        )
    paths.cancel.write_text(REASON)
    processes.wait_until(lambda: "agent" in read_handle(paths) or not record.alive(), STARTING_S)
    agent = read_handle(paths).get("agent", "")
    processes.signal_group(agent, signal.SIGTERM)
    if processes.wait_until(lambda: not record.alive(), grace_s):
        return ""
    processes.signal_group(agent, signal.SIGKILL)
    if not processes.wait_until(lambda: not record.alive(), KILL_GRACE_S):
        raise InfrastructureError(
            f"the agent of {record.path.name} does not end",
            hint=f"its process is {agent.partition('@')[0] or 'unknown'}",
        )
    return f"the agent did not end within {grace_s:g} s and was killed"


def end_sandbox(paths: Paths) -> None:
    """End the sandbox's processes, whichever of them live, and what they leave.

    Raises InfrastructureError for what does not end.
    """
    if locks.is_held(paths.lock):
        known = read_handle(paths).get("sandbox", "")
        processes.signal_leader(known, signal.SIGTERM)
        if not processes.wait_until(lambda: not locks.is_held(paths.lock), 2 * KILL_GRACE_S):
            processes.signal_group(known, signal.SIGKILL)
            if not processes.wait_until(lambda: not locks.is_held(paths.lock), KILL_GRACE_S):
                raise InfrastructureError(
                    f"the sandbox in {paths.root} does not end",
                    hint=f"its first process is {known.partition('@')[0] or 'unknown'}",
                )
    with contextlib.suppress(OSError):
        directory.sweep(paths)
