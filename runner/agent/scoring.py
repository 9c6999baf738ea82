"""The score: the experiment's own script, run outside the sandbox on what was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.record import Record

DEADLINE_S = 600.0
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def score(record: Record, script: str) -> dict[str, Any]:
    """Run the script on the record's outputs/; its JSON as `score`, or what went wrong as `error`.

    It runs as `python score.py OUTPUTS`, with the runner's own Python, none of
    the run's secrets, and ten minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "score.py")
        try:
            file.write_bytes(record.input(script))
            done = subprocess.run(
                [sys.executable, str(file), str(record.path / "outputs")],
                cwd=folder,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
        except (OSError, RunnerError) as error:
            return {"error": f"the score script did not start: {error}"}
        except subprocess.TimeoutExpired:
            return {"error": f"the score script took longer than {DEADLINE_S:g} s"}
    if done.returncode:
        words = done.stderr.strip()[-2000:]
        return {"error": f"the score script ended with status {done.returncode}: {words}"}
    try:
        return {"score": json.loads(done.stdout)}
    except ValueError as error:
        return {"error": f"the score script printed no JSON: {error}: {done.stdout[:200]!r}"}
