"""The gateway of a command: a stream that comes in any pieces is counted as it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest
from messages_api import events
from starlette.applications import Starlette

from runner.agent.command.gateway import Gateway

REPLY = {"text": "I look.", "tools": [{"name": "run_cell", "input": {"source": "1 + 1"}}]}
STREAM = b"".join(
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    for event in events(REPLY, "m", 1)
)


class Meter:
    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.failures: list[str] = []

    def refusal(self, asked: Any) -> str:
        return ""

    def asked(self, asked: Any) -> int:
        return 1

    def answered(self, number: int, asked: Any, reply: Any) -> None:
        self.replies.append(reply)

    def failed(self, number: int, words: str) -> None:
        self.failures.append(words)


def passed_on(pieces: list[bytes], *, broken: bool = False) -> tuple[bytes, Meter]:
    """What a client has of a stream in these pieces, and what was counted."""
    meter = Meter()
    gateway = Gateway(meter, "sk-canary-0123456789", "http://model.example")  # type: ignore[arg-type]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if broken:
            raise httpx2.ReadError("connection reset, sk-canary-0123456789")

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=kind, content=stream(), request=request)

    async def ask() -> bytes:
        gateway._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        app = httpx2.ASGITransport(Starlette(routes=gateway.routes()))
        async with httpx2.AsyncClient(transport=app, base_url="http://gateway") as client:
            return (await client.post("/v1/messages", json={"stream": True})).content

    return anyio.run(ask), meter


@pytest.mark.parametrize("size", [1, 20, 4096, len(STREAM) - 10, len(STREAM) - 60])
def test_a_stream_in_any_pieces(size: int) -> None:
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    passed, meter = passed_on(pieces)
    assert passed == STREAM
    [reply] = meter.replies
    assert reply.stop_reason == "tool_use"
    assert reply.content[1]["input"] == {"source": "1 + 1"}


def test_a_stream_that_is_cut_does_not_look_whole() -> None:
    half = STREAM[: len(STREAM) // 2]
    passed, meter = passed_on([half], broken=True)
    assert passed.startswith(half)
    last = passed.rpartition(b"event: error\ndata: ")[2]
    assert "the stream was cut" in json.loads(last)["error"]["message"]
    assert b"canary" not in passed
    [reply] = meter.replies
    assert reply.stop_reason == "interrupted"


def test_what_is_no_message_is_a_failure_in_words() -> None:
    passed, meter = passed_on([b'event: ping\ndata: {"type": "ping"}\n\n'])
    assert passed
    assert (meter.replies, len(meter.failures)) == ([], 1)
