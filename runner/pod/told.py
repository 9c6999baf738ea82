"""What a container is told on its stdin as it starts: secrets, which are nowhere else then.

A Docker engine shows a container's variables, arguments and labels to everybody who may ask
it. What a client wrote to a container's stdin it does not keep.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from runner.errors import InfrastructureError

STEP = "RUNNER_STEP"
"""Names the command that the container was made for; others that run in it are told nothing."""


def message(env: Mapping[str, str], files: Mapping[Path, str]) -> bytes:
    """What the client says: variables, and files with their text."""
    told = {"env": dict(env), "files": {str(path): text for path, text in files.items()}}
    return json.dumps(told).encode() + b"\n"


def take(step: str, source: IO[str] | None = None) -> None:
    """Take it over, in the container of this step; elsewhere nothing.

    The files are there for this user alone. Raises InfrastructureError where the client was
    killed before it said a word.
    """
    if os.environ.get(STEP) != step:
        return
    line = (source or sys.stdin).readline()
    if not line.endswith("\n"):
        raise InfrastructureError(
            "this container was told no secrets: the client that started it was killed",
            hint="`runner resume RUN` starts the run anew",
        )
    told = json.loads(line)
    os.environ.update(told["env"])
    for name, text in told["files"].items():
        file = Path(name)
        file.touch(mode=0o600)
        file.write_text(text)
