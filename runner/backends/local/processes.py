"""Processes that outlive the terminal, and how they are found and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from runner.signals import sigterm_held

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ENDING_S = 10.0

LOOK_S = 0.05
"""How often it is looked whether a child has ended."""


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    keep_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; it goes on when the terminal is closed.

    A SIGTERM waits until it says `accept_sigterm`.
    """
    with log.open("ab") as output, sigterm_held():
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=list(keep_fds),
        )
    # Whoever started it may live as long as it: then it must not stay as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def undo(process: subprocess.Popen[bytes]) -> None:
    """End a process that was just started, and what it started."""
    process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def identity(pid: int) -> str:
    """What tells a process from a later one of the same number: number and time of its start."""
    return f"{pid}@{_begun(pid)}"


def _begun(pid: int) -> str:
    """When a process was started, or "" if there is none, not even as a zombie."""
    try:
        if sys.platform == "linux":
            # Ticks since boot: unlike psutil's time of day, no clock that is set changes them.
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            return stat.rpartition(")")[2].split()[19]
        return f"{psutil.Process(pid).create_time():.2f}"
    except (OSError, psutil.Error):
        return ""


def lives(known: str) -> bool:
    """Whether the process of an `identity` still runs."""
    pid, _, begun = known.partition("@")
    if not begun or _begun(int(pid)) != begun:
        return False
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def signal_leader(known: str, number: signal.Signals) -> None:
    """Signal the process of an `identity`, or, if it is gone, what is left of its group."""
    if not lives(known):
        signal_group(known, number)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(known.partition("@")[0]), number)


def signal_group(known: str, number: signal.Signals) -> None:
    """Signal the process group that an `identity` leads, whether or not its leader lives."""
    pid, _, begun = known.partition("@")
    # The number cannot have been given to another group while one of its members lives; and if
    # a leader lives under it, it has to be ours.
    if pid and _begun(int(pid)) in ("", begun):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(pid), number)


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Wait for a condition; False when it does not hold after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_and_reap(child: subprocess.Popen[bytes]) -> int:
    """Wait for a child, and take leave of every adopted orphan that ends meanwhile."""
    while True:
        # Not blocking: a signal that comes just before the call would have to wait for its end.
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            time.sleep(LOOK_S)
        elif pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode


def end_descendants() -> None:
    """Kill every process that descends from this one, also what has left its session."""
    me = psutil.Process()
    # A killed parent hands its children over: look again until there are none.
    for _ in range(20):
        children = me.children(recursive=True)
        if not children:
            return
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=1.0)
