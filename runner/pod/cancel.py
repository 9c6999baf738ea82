"""`runner.pod cancel WORDS`: run by a client in the agent's container, ends the run."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from runner.pod import layout

PID = layout.TMP / "agent.pid"
"""Number of the agent's first process, which passes the SIGTERM on."""


def main(arguments: list[str]) -> int:
    """Say why, then tell the agent to leave; it collects what was made, and writes the end."""
    cancel(" ".join(arguments) or "cancelled", layout.CANCEL, PID)
    return 0


def cancel(words: str, file: Path, pid: Path) -> None:
    """Leave the words in `file`; an agent that is not there yet looks for them when it comes."""
    part = file.with_suffix(".part")
    part.write_text(words)
    part.replace(file)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGTERM)


def expect(file: Path, pid: Path) -> None:
    """In the agent, with SIGTERM blocked: be found by `cancel`, and heed one that came before."""
    part = pid.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.replace(pid)
    if file.exists():
        os.kill(os.getpid(), signal.SIGTERM)
