"""How a client of the Model Context Protocol starts a server for a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from runner.settings import Settings

SERVER = "runner"
"""The name of a run's tools among the MCP servers of a model."""
_PLACES = ("KUBECONFIG", "DOCKER_HOST")


def mcp_config(
    run_id: str, settings: Settings, mode: str | None = None, served: str | None = None
) -> dict[str, Any]:
    """What goes below `mcpServers` in a client's file: the server's name and its command.

    `mode` is notebook or cli; the experiment's if left out. `served` is the name of an interface
    that the sandbox serves, in place of its own tools. It holds wherever the client starts it,
    which passes on few variables: those that name cluster, engine and settings are in it.
    """
    given = {"--mode": mode, "--served": served}
    words = ["mcp", run_id, *(word for pair in given.items() if pair[1] for word in pair)]
    places = ["--runs", str(Path(settings.runs).absolute()), "--backend", settings.backend]
    of_settings = {f"RUNNER_{field.upper()}" for field in Settings.model_fields}
    environ = {
        name: value
        for name, value in os.environ.items()
        if name.partition("__")[0].upper() in of_settings or name in _PLACES
    }
    entry = {
        "type": "stdio",
        "command": sys.executable,
        "args": ["-m", "runner", *words, *places],
        "env": environ | {"RUNNER_STATE_DIR": str(settings.state_dir)},
    }
    return {served or SERVER: entry}
