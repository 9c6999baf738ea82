"""The score: the experiment's own script, run outside the sandbox on what was kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

from runner.errors import RunnerError
from runner.record import Record

DEADLINE_S = 600.0
LOOK_S = 0.2
LONGEST = 1 << 20
"""Bytes of a score."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def score(
    record: Record,
    script: str,
    deadline_s: float = DEADLINE_S,
    told_to_leave: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run the script on the record's outputs/; its JSON as `score`, or what went wrong as `error`.

    It runs as `python score.py OUTPUTS`, with the runner's own Python, none of
    the run's secrets, and ten minutes, unless the agent is told to leave; what it started
    ends with it.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        try:
            file = Path(folder, "score.py")
            file.write_bytes(record.input(script))
            command = [sys.executable, str(file), str(record.path / "outputs")]
            status = _run(command, folder, output, errors, deadline_s, told_to_leave)
        except (OSError, RunnerError) as error:
            return {"error": f"the score script did not start: {error}"}
        except subprocess.TimeoutExpired:
            if told_to_leave():
                return {"error": "the score script was ended, as the run was told to end"}
            return {"error": f"the score script took longer than {deadline_s:g} s"}
        said = _text(output, LONGEST + 1)
        if status:
            words = _text(errors, LONGEST).strip()[-2000:]
            return {"error": f"the score script ended with status {status}: {words}"}
    if len(said) > LONGEST:
        return {"error": f"the score script printed more than {LONGEST} bytes"}
    try:
        return {"score": json.loads(said, parse_constant=_no_json)}
    except (ValueError, RecursionError) as error:
        return {"error": f"the score script printed no JSON: {error}: {said[:200]!r}"}


def _run(
    command: list[str],
    folder: str,
    output: IO[bytes],
    errors: IO[bytes],
    deadline_s: float,
    told_to_leave: Callable[[], bool],
) -> int:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )
    end = time.monotonic() + deadline_s
    try:
        while True:
            try:
                return process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > end or told_to_leave():
                    raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _text(file: IO[bytes], most: int) -> str:
    file.seek(0)
    return file.read(most).decode("utf-8", "replace")


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not in JSON")
