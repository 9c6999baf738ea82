"""Servers of MCP that are started as commands: in the sandbox, never beside the model's key."""

from __future__ import annotations

import json
import re
import shlex
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anyio
from anyio import from_thread, to_thread

from runner.api.driven import DrivenRun
from runner.api.mcp_config import not_installed
from runner.api.served import PLACE, watch
from runner.errors import InfrastructureError, RunnerError, UsageError
from runner.session import Channel

if TYPE_CHECKING:
    from mcp import Client

START_S = 300.0
"""How long a server may take to tell of its tools: one may install itself first."""
END_S = 5.0
"""How long it may take to end."""
LINES = b"$lines"
SHOWN = 2000
"""Characters of what it printed on stderr that its end is explained with."""
_MODULES = ("stdio.py", "worker.py", "wire.py")
_KEYS = {"type", "command", "args", "env"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def in_sandbox(name: str, entry: Mapping[str, Any], driven: DrivenRun) -> Callable[[], Client]:
    """What starts the server of an entry such as {"command": "uvx", "args": […], "env": {…}}.

    Raises UsageError for an entry that is none.
    """
    if unknown := sorted(set(entry) - _KEYS):
        raise UsageError(f"mcp_config: {name}: no such key: {', '.join(unknown)}")
    command, env = [entry["command"], *entry.get("args", ())], entry.get("env") or {}
    if not all(isinstance(word, str) for word in command):
        raise UsageError(f"mcp_config: {name}: command, args: expected texts")
    if not isinstance(env, Mapping):
        raise UsageError(f"mcp_config: {name}: env: expected names and values")
    if not _NAME.fullmatch(name):
        raise UsageError(f"mcp_config: {name!r}: expected a name of letters, digits, - and _")
    try:
        from mcp import Client
    except ModuleNotFoundError as error:
        raise not_installed() from error
    started = _Started(name, command, {key: str(value) for key, value in env.items()}, driven)
    return lambda: Client(_streams(started), read_timeout_seconds=START_S)


class _Started:
    """One server, as a command in the sandbox; its calls block."""

    def __init__(
        self, name: str, command: list[str], env: Mapping[str, str], driven: DrivenRun
    ) -> None:
        self._name, self._command, self._env, self._driven = name, command, env, driven
        self._session, self._watching = driven.beside(), driven.beside()
        self._op = ""
        self._channel: Channel

    def start(self) -> None:
        """Start it; one that was started before has ended."""
        place = f"{PLACE}/mcp-{self._name}"
        for module in _MODULES:
            source = files("runner.serving").joinpath(module).read_bytes()
            self._session.write_file(f"{place}/{module}", source)
        # One of its own, as the one before may still be being closed.
        unique = uuid.uuid4().hex[:8]
        self._channel = Channel(self._session, f"mcp-{self._name}-{unique}")
        tokens = self._channel.open()
        config = {"url": tokens.url, "token": tokens.server, "command": self._command}
        data = json.dumps(config | {"env": self._env}).encode()
        self._session.write_file(f"{place}/config.json", data)
        self._op = f"serve-mcp-{self._name}-{unique}"
        command = f"python {shlex.quote(place)}/stdio.py {shlex.quote(place)}/config.json"
        self._session.shell(command, op=self._op, timeout_s=0)
        channel = Channel(self._watching, self._channel.name)
        told = (self._watching, channel, self._op)
        threading.Thread(target=watch, args=told, name="serving", daemon=True).start()

    def lines(self) -> Any:
        """What it says, in pieces, until it ends."""
        return self._channel.call(uuid.uuid4().hex, LINES)

    def tell(self, line: bytes) -> None:
        """Tell it a line."""
        for _ in self._channel.call(uuid.uuid4().hex, line):
            pass

    def ended(self) -> str:
        """Why it has ended; empty where it has not."""
        result = self._session.wait(self._op, timeout_s=1.0)
        if not result.final:
            return ""
        said = result.text.strip()[-SHOWN:]
        return f"it ended with status {result.exit}" + (f": {said}" if said else "")

    def stop(self) -> None:
        """End it."""
        with suppress(RunnerError, RuntimeError):
            self._channel.close(f"the MCP server {self._name} was ended")
            self._session.interrupt(self._op, timeout_s=END_S)


@asynccontextmanager
async def _streams(started: _Started) -> AsyncIterator[Any]:
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    incoming, read = anyio.create_memory_object_stream[Any](0)
    write, outgoing = anyio.create_memory_object_stream[Any](0)

    def pump() -> None:
        rest = b""
        for data, _ in started.lines():
            *lines, rest = (rest + data).split(b"\n")
            for line in filter(None, lines):
                try:
                    said: Any = SessionMessage(jsonrpc_message_adapter.validate_json(line))
                except ValueError as error:
                    said = error
                from_thread.run(incoming.send, said)

    async def hear() -> None:
        async with incoming:
            # The session was closed, or the sandbox is gone: the other end is told by the stream's.
            with suppress(RunnerError, RuntimeError, anyio.BrokenResourceError):
                await to_thread.run_sync(pump, abandon_on_cancel=True)

    async def tell() -> None:
        async with outgoing:
            async for message in outgoing:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                with suppress(RunnerError, RuntimeError):
                    await to_thread.run_sync(started.tell, text.encode(), abandon_on_cancel=True)

    try:
        await to_thread.run_sync(started.start)
        async with anyio.create_task_group() as group:
            group.start_soon(hear)
            group.start_soon(tell)
            try:
                yield read, write
            except Exception as error:
                if words := await to_thread.run_sync(started.ended):
                    raise InfrastructureError(words) from error
                raise
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(started.stop)
