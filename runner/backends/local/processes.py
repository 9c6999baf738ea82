"""Processes that outlive the terminal, and how they are found and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

_KEPT = {
    "CURL_CA_BUNDLE",
    "HOME",
    "HF_HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
}
_KEPT_PREFIXES = ("GIT_SSL_", "LC_", "PIP_", "SSL_", "UV_")


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a run's processes get of the user's environment: places and languages, no secrets.

    Of pip's and uv's settings those are left out that carry credentials in a URL.
    """
    return {
        name: value
        for name, value in environ.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES))
        and not ("://" in value and "@" in value)
    }


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    keep_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; it goes on when the terminal is closed."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=list(keep_fds),
        )


def identity(pid: int) -> str:
    """What tells a process from a later one of the same number: number and time of its start."""
    return f"{pid}@{psutil.Process(pid).create_time():.2f}"


def find(known: str) -> psutil.Process | None:
    """The process of an `identity`, if it still runs."""
    pid, _, created = known.partition("@")
    try:
        process = psutil.Process(int(pid))
        if f"{process.create_time():.2f}" != created or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except (psutil.Error, ValueError):
        return None
    return process


def signal_group(known: str, number: signal.Signals) -> None:
    """Signal the process group that an `identity` leads, whether or not its leader lives."""
    pid = int(known.partition("@")[0])
    # The number cannot have been given to another group while one of its members lives; and if
    # a leader lives under it, it has to be ours.
    if find(known) is None and psutil.pid_exists(pid):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


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
