"""The tools of a session for a client that speaks the Model Context Protocol."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runner import __version__
from runner.agent.tools import Answer, Others, Toolbox, text
from runner.errors import RunnerError

ABOUT = """\
A Jupyter notebook in a sandbox, with its shell and its files. Variables stay in the kernel from
cell to cell. "still running" is no failure: `wait` goes on waiting, `interrupt` stops it. A cell
goes on when the connection does not."""


def server_of(tools: Toolbox | Others) -> Server[Any]:
    """A server that has these tools; what goes wrong in one is told to the model in words."""

    async def list_tools(_: ServerRequestContext[Any], __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(**tool) for tool in tools.definitions()])

    async def call_tool(
        _: ServerRequestContext[Any], asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        call = partial(tools.call, asked.name, asked.arguments or {}, uuid.uuid4().hex)
        # A client that goes away while a cell runs is not waited for, and the cell goes on.
        try:
            answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
        except RunnerError as error:
            answer = text(str(error), is_error=True)
        return types.CallToolResult(content=_content(answer), is_error=answer.is_error)

    return Server(
        "runner",
        version=__version__,
        instructions=ABOUT,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def http_server(
    tools: Toolbox | Others, token: str, routes: Sequence[Route] = ()
) -> uvicorn.Server:
    """What serves streamable HTTP at `/mcp`, and `routes` beside it; to be run on a socket.

    Who sends `token` neither as a bearer's nor as an API's key is refused.
    """
    app = server_of(tools).streamable_http_app(custom_starlette_routes=list(routes))
    config = uvicorn.Config(_guarded(app, token), log_level="warning", timeout_graceful_shutdown=1)
    return uvicorn.Server(config)


def _guarded(app: ASGIApp, token: str) -> ASGIApp:
    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        given = given or headers.get(b"x-api-key", b"")
        if scope["type"] == "http" and not hmac.compare_digest(given, token.encode()):
            refusal = PlainTextResponse("this needs the token of the entry, as a bearer's\n", 401)
            await refusal(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


def serve(tools: Toolbox | Others) -> None:
    """Serve on stdin and stdout until the client closes them."""
    server = server_of(tools)

    async def run() -> None:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    anyio.run(run)


def _content(answer: Answer) -> list[types.ContentBlock]:
    """Blocks of the Messages API as those of MCP."""
    blocks: list[types.ContentBlock] = []
    for block in answer.content:
        if block["type"] == "image":
            source = block["source"]
            image = types.ImageContent(
                type="image", data=source["data"], mime_type=source["media_type"]
            )
            blocks.append(image)
        else:
            blocks.append(types.TextContent(type="text", text=block["text"]))
    return blocks
