"""What is known of a local run's processes, in a file of its sandbox's directory."""

from __future__ import annotations

import json
from collections.abc import Mapping

from runner.backends.local.paths import Paths

NAME = "local"


def read_handle(paths: Paths) -> dict[str, str]:
    """What is known of the processes; empty where none was started."""
    try:
        data: dict[str, str] = json.loads(paths.handle.read_text())
    except FileNotFoundError:
        return {}
    return data


def write_handle(paths: Paths, data: Mapping[str, str]) -> None:
    """Put it in place, whole."""
    part = paths.handle.with_suffix(".part")
    part.write_text(json.dumps(data))
    part.replace(paths.handle)
