"""How a client of the Model Context Protocol starts a server for a run."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from runner.agent.mcp_entry import SERVER
from runner.errors import UsageError
from runner.settings import Settings

SANDBOXES = "sandboxes"
"""The name of the tools that look after sandboxes."""
_PLACES = ("KUBECONFIG", "DOCKER_HOST")


def mcp_config(
    run_id: str, settings: Settings, mode: str | None = None, served: str | None = None
) -> dict[str, Any]:
    """What goes below `mcpServers` in a client's file: the server's name and its command.

    `mode` is notebook or cli; the experiment's if left out. `served` is the name of an interface
    that the sandbox serves, in place of its own tools. It holds wherever the client starts it,
    which passes on few variables: those that name cluster, engine and settings are in it.
    """
    words = [run_id]
    for option, value in (("--mode", mode), ("--served", served)):
        words += [option, value] if value else []
    return {served or SERVER: _entry(words, settings)}


def management_config(settings: Settings) -> dict[str, Any]:
    """The same for tools that look after all of the caller's sandboxes."""
    return {SANDBOXES: _entry(["--sandboxes"], settings)}


def _entry(words: list[str], settings: Settings) -> dict[str, Any]:
    places = ["--runs", str(Path(settings.runs).absolute()), "--backend", settings.backend]
    of_settings = {f"RUNNER_{field.upper()}" for field in Settings.model_fields}
    environ = {
        name: value
        for name, value in os.environ.items()
        if name.partition("__")[0].upper() in of_settings or name in _PLACES
    }
    return {
        "type": "stdio",
        "command": sys.executable,
        "args": ["-m", "runner", "mcp", *words, *places],
        "env": environ | {"RUNNER_STATE_DIR": str(settings.state_dir)},
    }


def listening(port: int) -> socket.socket:
    """A socket that listens on this port of the loopback interface, on a free one for 0.

    Raises UsageError for one that is taken.
    """
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(
            f"port {port} of this machine is taken: {error.strerror}", hint="--http 0: a free one"
        ) from error


def not_installed() -> UsageError:
    """What whoever wants to speak MCP is told where its package is missing."""
    return UsageError(
        "MCP is spoken with the package `mcp`, which is not installed here",
        hint="pip install 'runner[mcp]'",
    )
