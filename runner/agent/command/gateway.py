"""The Messages API for a command, which is passed on to the model's server and counted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anthropic
import anyio
import httpx2
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from runner.agent.command.meter import Meter
from runner.agent.providers.anthropic import reply_in, usable

PATIENCE = httpx2.Timeout(600.0, connect=10.0)
WORDS = 1_000
"""Characters of an error's words that are written down."""
_PASSED_ON = ("anthropic-", "x-stainless-", "content-type", "user-agent")
_END = b"\nevent: message_stop"
"""It cannot be part of what a model says, where line ends are escaped."""
_CUT = (
    b'\n\nevent: error\ndata: {"type": "error", "error": {"type": "api_error", "message": %s}}\n\n'
)


class Gateway:
    """Adds the key, which the command does not have, and keeps count of the replies.

    A reply is in the record before its last event goes on to the command. An answer of the server,
    an error too, goes on as it is: the command tries again where it likes to.
    """

    def __init__(self, meter: Meter, key: str, base_url: str | None) -> None:
        """Connect lazily. Raises ConfigError for what is no key."""
        self._meter, self._key = meter, usable(key)
        self._sdk = anthropic.Anthropic(api_key=self._key, base_url=base_url)
        self._http = httpx2.AsyncClient(timeout=PATIENCE)

    def routes(self) -> list[Route]:
        """What it serves, below the address of the server that it is part of."""
        return [
            Route("/v1/messages", self._messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", self._others, methods=["POST"]),
            Route("/v1/models", self._others, methods=["GET"]),
            Route("/v1/models/{model}", self._others, methods=["GET"]),
        ]

    async def _others(self, request: Request) -> Response:
        try:
            answer = await self._send(request, await request.body())
            await answer.aread()
        except httpx2.HTTPError as error:
            return _error(502, "api_error", self._words(error))
        return Response(answer.content, answer.status_code, _back(answer))

    async def _messages(self, request: Request) -> Response:
        body = await request.body()
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return _error(400, "invalid_request_error", "expected a JSON object")
        if words := await to_thread.run_sync(self._meter.refusal, asked):
            return _error(403, "permission_error", words)
        number = await to_thread.run_sync(self._meter.asked, asked)
        try:
            answer = await self._send(request, body)
            if answer.status_code != 200 or not asked.get("stream"):
                await answer.aread()
        except httpx2.HTTPError as error:
            await to_thread.run_sync(self._meter.failed, number, self._words(error))
            return _error(502, "api_error", self._words(error))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._meter.failed, number, "the run ended before it came")
            raise
        if answer.status_code != 200:
            words = f"{answer.status_code} {answer.text[:WORDS]}"
            await to_thread.run_sync(self._meter.failed, number, words)
            return Response(answer.content, answer.status_code, _back(answer))
        if not asked.get("stream"):
            await self._answered(number, asked, answer, answer.content)
            return Response(answer.content, 200, _back(answer))
        return StreamingResponse(self._relayed(number, asked, answer), 200, _back(answer))

    async def _relayed(
        self, number: int, asked: Mapping[str, Any], answer: httpx2.Response
    ) -> AsyncIterator[bytes]:
        """The pieces of a stream as they come, the last event when the reply is written down."""
        passed, held, told = bytearray(), bytearray(), False
        try:
            async for piece in answer.aiter_bytes():
                passed += piece
                if held or passed.find(_END, max(len(passed) - len(piece) - len(_END), 0)) >= 0:
                    held += piece
                else:
                    yield piece
            told = True
            await self._answered(number, asked, answer, bytes(passed))
            yield bytes(held)
        except httpx2.HTTPError as error:
            # The end of the answer would be that of a whole one.
            yield _CUT % json.dumps(f"the stream was cut: {self._words(error)}").encode()
        finally:
            with anyio.CancelScope(shield=True):
                if not told:  # cut, or the command has gone
                    await self._answered(number, asked, answer, bytes(passed))
                await answer.aclose()

    async def _answered(
        self, number: int, asked: Mapping[str, Any], answer: httpx2.Response, data: bytes
    ) -> None:
        def count() -> None:
            kind = {"content-type": answer.headers.get("content-type", "")}
            passed = httpx2.Response(200, headers=kind, content=data, request=answer.request)
            try:
                reply = reply_in(passed, self._sdk)
            except (ValueError, KeyError, TypeError) as error:
                reply, words = None, f"the answer is no message: {error!r}"[:WORDS]
            else:
                words = "the answer ended before there was a message in it"
            if reply is None:
                self._meter.failed(number, words)
            else:
                self._meter.answered(number, asked, reply)

        await to_thread.run_sync(count)

    async def _send(self, request: Request, body: bytes) -> httpx2.Response:
        given = {
            name: value for name, value in request.headers.items() if name.startswith(_PASSED_ON)
        }
        url = f"{str(self._sdk.base_url).rstrip('/')}{request.url.path}"
        sent = self._http.build_request(
            request.method,
            url,
            params=request.query_params,
            content=body or None,
            headers={**given, "accept-encoding": "identity", **self._sdk.auth_headers},
        )
        return await self._http.send(sent, stream=True)

    def _words(self, error: Exception) -> str:
        """For the command; what is written down is masked by the record itself."""
        words = f"{self._sdk.base_url}: {error or type(error).__name__}"
        return words.replace(self._key, "***")[:WORDS]


def _back(answer: httpx2.Response) -> dict[str, str]:
    """Headers of an answer that mean something to who asked."""
    names = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "request-id")
    return {name: answer.headers[name] for name in names if name in answer.headers}


def _error(status: int, kind: str, words: str) -> Response:
    return JSONResponse({"type": "error", "error": {"type": kind, "message": words}}, status)
