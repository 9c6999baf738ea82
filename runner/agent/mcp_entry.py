"""How a client of the Model Context Protocol reaches a server that is there."""

from __future__ import annotations

from typing import Any

SERVER = "runner"
"""The name of a run's tools among the MCP servers of a model."""


def http_entry(port: int, token: str, name: str = SERVER) -> dict[str, Any]:
    """What goes below `mcpServers` in a client's file for one on a port of this machine."""
    entry = {
        "type": "http",
        "url": f"http://127.0.0.1:{port}/mcp",
        "headers": {"Authorization": f"Bearer {token}"},
    }
    return {name: entry}
