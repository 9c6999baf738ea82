"""Calls over HTTP: openapi.json says who may do what."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web
from tornado.http1connection import HTTP1Connection

from runner.sandbox.calls import ChannelClosed
from runner.sandbox.handlers import LONGEST_WAIT_S, Api

NAME = "[A-Za-z0-9_-]{1,64}"
MOST_PARTS = 1e12


class ChannelHandler(Api):
    """A channel, for the holder of the run's token."""

    def put(self, name: str) -> None:
        """Open it; one that is open stays as it is."""
        if not re.fullmatch(NAME, name):
            raise web.HTTPError(400, f"channel: expected {NAME}, found {name!r}")
        channel = self.sandbox.channels.open(name)
        self.finish_json(
            {
                "url": f"{self._own_url()}{self.base_url}runner/v1/calls/{name}",
                "caller": channel.caller,
                "server": channel.server,
            }
        )

    def delete(self, name: str) -> None:
        """Close it, for a reason that everybody is told."""
        with contextlib.suppress(ChannelClosed):
            self.sandbox.channels.find(name).close(self.get_query_argument("reason"))
        self.finish_json({})

    def _own_url(self) -> str:
        """Where processes of the sandbox itself reach this server: where this request did."""
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)  # noqa: S101 - there is no other
        address, port = connection.stream.socket.getsockname()[:2]
        return f"http://{f'[{address}]' if ':' in address else address}:{port}"


class CallApi(Api):
    """What a channel's own tokens open; their use does not keep the sandbox from idling out."""

    serving: frozenset[str] = frozenset()
    """Methods that are for who serves."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Let in who holds the token for this side of the channel, or the run's."""
        await super(Api, self).prepare()
        try:
            self.channel = self.sandbox.channels.find(self.path_args[0])
        except ChannelClosed as error:
            raise web.HTTPError(404, str(error)) from None
        if not self.token_authenticated:
            token = self.identity_provider.get_token(self)
            if not self.channel.admits(token, serving=self.request.method in self.serving):
                raise web.HTTPError(403, "this needs the token of the channel")
        else:
            self.sandbox.touch()

    def check_xsrf_cookie(self) -> None:
        """A token in a header is not sent by a browser that was led astray."""

    @property
    def wait_s(self) -> float:
        """How long the request waits for news."""
        return self.number("wait", 0.0, LONGEST_WAIT_S)

    def part(self, name: str = "after") -> int:
        """A part's number, of the query."""
        return int(self.number(name, 0, MOST_PARTS))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every refusal in words; what is closed as what is not there."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, ChannelClosed):
            self.set_status(404)
            self.finish_json({"message": str(error)})
        else:
            super().write_error(status_code, **kwargs)

    def log_exception(self, *raised: Any) -> None:
        """Nothing of a channel that was closed: whoever waits there is told."""
        if not isinstance(raised[1], ChannelClosed):
            super().log_exception(*raised)

    def send(self, data: bytes, **headers: object) -> None:
        """Answer with bytes, and what is to be known of them."""
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.set_header(f"Runner-{name.title()}", str(value))
        self.finish(data)


class NextHandler(CallApi):
    """What is there to be answered."""

    serving = frozenset({"GET"})

    @allow_unauthenticated
    async def get(self, name: str) -> None:
        """The first call after number `after`, or 204."""
        del name
        call = await self.channel.next(self.part(), self.wait_s)
        unattended = self.sandbox.unattended_s
        if call is None:
            self.set_header("Runner-Unattended", f"{unattended:.0f}")
            self.set_status(204)
            self.finish()
            return
        self.send(call.body, call=call.id, number=call.number, unattended=f"{unattended:.0f}")


class CallHandler(CallApi):
    """One call: its caller's but for POST, by which it is answered."""

    serving = frozenset({"POST"})

    @allow_unauthenticated
    async def put(self, name: str, call: str) -> None:
        """Ask; 202 where there is no room yet, and it has to be sent again."""
        del name
        self.check_id(call)
        there = await self.channel.ask(call, self.request.body, self.wait_s)
        self.set_status(200 if there else 202)
        self.finish_json({})

    @allow_unauthenticated
    async def get(self, name: str, call: str) -> None:
        """The parts of its answer after number `after`, waiting for the first."""
        del name
        data, last, ended = await self.channel.take(call, self.part(), self.wait_s)
        served = self.channel.unserved_s
        self.send(data, number=last, ended=int(ended), unserved=f"{served:.0f}")

    @allow_unauthenticated
    def delete(self, name: str, call: str) -> None:
        """Have it forgotten: its caller has all, or wants no more."""
        del name
        self.channel.give_up(call)
        self.finish_json({})

    @allow_unauthenticated
    async def post(self, name: str, call: str) -> None:
        """Add a part to its answer; 202 where there is no room yet, and it has to be sent again."""
        del name
        end = self.get_query_argument("end", "0") == "1"
        part, data = self.part("part"), self.request.body
        try:
            there = await self.channel.answer(call, part, data, end=end, wait_s=self.wait_s)
        except ValueError as error:
            raise web.HTTPError(409, str(error)) from None
        self.set_status(200 if there else 202)
        self.finish_json({})


def handlers(base: str) -> list[tuple[str, type[Api]]]:
    """Routes under the server's base URL."""
    name = "([^/]+)"
    return [
        (f"{base}runner/v1/channels/{name}", ChannelHandler),
        (f"{base}runner/v1/calls/{name}", NextHandler),
        (f"{base}runner/v1/calls/{name}/{name}", CallHandler),
    ]
