"""Tools of others' servers of the Model Context Protocol, for a model that works in a session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.agent.images import Unshowable, image_block
from runner.agent.text import shorten
from runner.agent.tools import Answer, text
from runner.api.mcp_config import not_installed
from runner.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    import mcp_types as types
    from mcp import Client

CONNECT_S = 60.0
"""How long a server may take to tell of its tools."""
CALL_S = 1800.0
"""How long it may take for a call."""
SHOWN = 12_000
"""Characters of a result that a model is shown."""
_KEYS = {"type", "url", "headers"}


class McpTools:
    """The tools of one server, as `mcp__NAME__TOOL`; a context manager.

    What goes wrong in a call is told to the model in words, and the next call connects anew.
    Entering it raises InfrastructureError where the server does not tell of its tools.
    """

    def __init__(self, name: str, connect: Callable[[], Client]) -> None:
        self._name, self._connect = name, connect
        self._close = ExitStack()
        self._portal: BlockingPortal
        self._client: Client | None = None
        self._connection = ExitStack()
        self._tools: dict[str, types.Tool] = {}

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._portal = started.enter_context(start_blocking_portal())
            started.callback(self._leave)
            try:
                found = self._portal.call(_listed, self._connected())
            except Exception as error:  # whatever a server of others, or the way there, has
                raise InfrastructureError(
                    f"the MCP server {self._name} does not tell of its tools: {_words(error)}"
                ) from error
            self._close = started.pop_all()
        for tool in found:
            spelled = re.sub(r"[^A-Za-z0-9_-]", "_", f"mcp__{self._name}__{tool.name}")[:128]
            self._tools[spelled] = tool
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each."""
        return [
            {
                "name": name,
                "description": tool.description or tool.name,
                "input_schema": tool.input_schema,
            }
            for name, tool in self._tools.items()
        ]

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        """What the server answers; it knows nothing of `op`, so it is never asked twice."""
        del op
        tool = self._tools[name].name
        try:
            ask = partial(self._connected().call_tool, read_timeout_seconds=CALL_S)
            return _answer(self._portal.call(ask, tool, dict(given)))
        except Exception as error:  # as above
            self._leave()
            return text(
                f"the MCP server {self._name} did not answer: {_words(error)}. Whether it did what "
                "was asked is not known",
                is_error=True,
            )

    def _connected(self) -> Client:
        if self._client is None:
            entered = self._portal.wrap_async_context_manager(self._connect())
            self._client = self._connection.enter_context(entered)
        return self._client

    def _leave(self) -> None:
        self._client = None
        with suppress(Exception):  # one that is gone cannot be taken leave of
            self._connection.close()


def over_http(name: str, entry: Mapping[str, Any]) -> Callable[[], Client]:
    """What connects to the server of an entry such as {"type": "http", "url": …, "headers": …}.

    Raises UsageError for an entry that is none.
    """
    if unknown := sorted(set(entry) - _KEYS):
        raise UsageError(f"mcp_config: {name}: no such key: {', '.join(unknown)}")
    url, headers = entry.get("url"), entry.get("headers", {})
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise UsageError(f"mcp_config: {name}: url: expected http:// or https://, found {url!r}")
    if not isinstance(headers, Mapping):
        raise UsageError(f"mcp_config: {name}: headers: expected names and values")
    try:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client
    except ModuleNotFoundError as error:
        raise not_installed() from error

    @asynccontextmanager
    async def streams() -> AsyncIterator[Any]:
        named = {key: str(value) for key, value in headers.items()}
        patience = httpx2.Timeout(CONNECT_S, read=CALL_S)
        async with (
            httpx2.AsyncClient(headers=named, timeout=patience) as http,
            streamable_http_client(url, http_client=http) as both,
        ):
            yield both

    return lambda: Client(streams(), read_timeout_seconds=CONNECT_S)


async def _listed(client: Client) -> list[types.Tool]:
    found, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        if not (cursor := page.next_cursor):
            return found


def _answer(result: types.CallToolResult) -> Answer:
    """Blocks of MCP as those of the Messages API."""
    words, images = [], []
    for block in result.content:
        if block.type == "text":
            words.append(block.text)
        elif block.type == "image":
            try:
                images.append(image_block(block.data))
            except Unshowable as error:
                words.append(f"[an image that cannot be shown: {error}]")
        else:
            words.append(f"[{block.type}: not shown]")
    said = text(shorten("\n".join(words), SHOWN))
    # The Messages API refuses an error with an image in it.
    failed = bool(result.is_error) and not images
    return Answer([*(said.content if words or not images else []), *images], failed)


def _words(error: BaseException) -> str:
    """What went wrong, without what the libraries wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
