"""A server of MCP that is somebody else's, in a process of its own: `python mcp_server.py PORT`."""

from __future__ import annotations

import base64
import io
import os
import sys
import time

import uvicorn
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image as Pixels
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "token-of-the-other-server"
server = MCPServer("other")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    raise ToolError("it does not work")


@server.tool()
def long() -> str:
    return "x" * 100_000


@server.tool()
def picture() -> Image:
    data = io.BytesIO()
    Pixels.new("RGB", (4, 4), "red").save(data, "PNG")
    return Image(data=data.getvalue(), format="png")


@server.tool()
def hang() -> str:
    time.sleep(600)
    return base64.__name__


@server.tool()
def die() -> str:
    os._exit(1)


def guarded(app: ASGIApp) -> ASGIApp:
    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        http = scope["type"] == "http"
        if http and Request(scope).headers.get("authorization") != f"Bearer {TOKEN}":
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


if __name__ == "__main__":
    uvicorn.run(guarded(server.streamable_http_app()), port=int(sys.argv[1]), log_level="critical")
