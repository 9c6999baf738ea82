"""Start, find, wait for and stop this machine's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labcluster.places import LOGS, RUN, STATE

Word = str | Path


def sh(*argv: Word, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run to the end; an exit status that is not 0 is an error."""
    return subprocess.run([str(word) for word in argv], check=True, **options)


def quiet(*argv: Word) -> bool:
    """Run to the end without a word; whether it exited with 0."""
    return subprocess.run([str(word) for word in argv], capture_output=True).returncode == 0


def start(name: str, *argv: Word, logs: Path = LOGS) -> int:
    """Start a process that outlives this one, its output in a log; its id."""
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ).pid


def wait(what: str, true: Callable[[], Any], seconds: float = 90, logs: Path = LOGS) -> None:
    """Until the condition holds; an error of the condition means not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except (OSError, subprocess.CalledProcessError):
            pass
        time.sleep(0.2)
    sys.exit(f"labcluster: {what} is not ready after {seconds:g} s; see {logs}")


def ours(program: str, *words: str) -> list[int]:
    """The ids of the processes of this program that work in the cluster's directories.

    `program` is how the program's file name starts; `words` are arguments it has.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if (
            Path(argv[0]).name.startswith(program)
            and any(f"{place}/" in word for word in argv for place in (STATE, RUN))
            and all(word in argv for word in words)
        ):
            found.append(int(entry.name))
    return found


def stop(processes: Iterable[int], seconds: float = 20) -> None:
    """SIGTERM, then SIGKILL for those that are still there."""
    left = list(processes)
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            left = [process for process in left if _alive(process)]
            time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return ") Z " not in state


def say(*lines: object) -> None:
    """Tell the person."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
