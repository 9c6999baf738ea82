"""A server on loopback that speaks the streaming Messages API and plays a script.

    with messages_api([{"text": "Hello"}, {"status": 529}]) as server:
        ... server.url, server.requests

or, for another process: `python tests/messages_api.py --script FILE --port 0`, which
prints its URL. Each request takes the next reply of the script (a JSON list):

| key | |
|---|---|
| `text`, `tools` | blocks; a tool is `{"name", "input"}`, or `{"name", "raw"}`: its input as text |
| `stop_reason`, `usage` | else tool_use / end_turn and some usage |
| `status`, `message`, `headers` | an HTTP error: 429, 529, 500, 401, … |
| `event` | an `error` event of this type in the middle of the stream |
| `cut` | "broken": the connection breaks midway; "clean": the stream ends early |
| `delay_s` | a pause before each event |
| `body`, `content_type` | answered as it is, with status 200 |

What the real API refuses is refused: see `complaint`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 40,
}


@dataclass(frozen=True)
class Request:
    headers: Mapping[str, str]  # names in lower case
    body: dict[str, Any]


@dataclass
class Server:
    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def messages_api(
    script: Iterable[Mapping[str, Any]], port: int = 0, address: str = "127.0.0.1"
) -> Iterator[Server]:
    """Serve `script` on an address of this machine until the block ends."""
    http = ThreadingHTTPServer((address, port), _Handler)
    http.server = server = Server(f"http://{address}:{http.server_address[1]}")
    http.replies = iter(script)
    http.numbers = itertools.count(1)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


def complaint(body: Mapping[str, Any]) -> str:
    """What the real API would refuse in this request, in its words; "" if nothing."""
    if not body.get("model") or not isinstance(body.get("max_tokens"), int):
        return "model, max_tokens: Field required"
    messages = body.get("messages") or []
    if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        return "messages: the first and the last message must be of role user"
    open_calls: list[str] = []
    marks = json.dumps(body).count('"cache_control"')
    if marks > 4:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {marks}."
    for index, message in enumerate(messages):
        if message["role"] != ("user", "assistant")[index % 2]:
            return f"messages.{index}: roles must alternate between user and assistant"
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            return f"messages.{index}: all messages must have non-empty content"
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if sorted(results) != sorted(open_calls):
            return (
                f"messages.{index}: `tool_use` ids {open_calls} must have `tool_result` blocks "
                f"immediately after, and only they; found {results}"
            )
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            return f"messages.{index}: `tool_result` blocks must come first"
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            for text in _texts(block):
                if not text.strip():
                    return f"messages.{index}: text content blocks must be non-empty"
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                return f"messages.{index}: tool_use.input: Input should be a valid dictionary"
    if len(set(open_calls)) != len(open_calls):
        return "`tool_use` ids must be unique"
    return ""


def _texts(block: Mapping[str, Any]) -> list[str]:
    inner = block.get("content", ())
    inner = () if isinstance(inner, str) else inner
    return [b["text"] for b in (block, *inner) if b["type"] == "text"]


def events(reply: Mapping[str, Any], model: str, number: int) -> Iterator[dict[str, Any]]:
    """The events of one message."""
    tools = reply.get("tools", ())
    usage = {**USAGE, **reply.get("usage", {})}
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield {"type": "message_start", "message": message}
    yield {"type": "ping"}
    blocks: list[tuple[dict[str, Any], str, str]] = []
    if "text" in reply:
        blocks.append(({"type": "text", "text": ""}, "text", reply["text"]))
    for position, tool in enumerate(tools, 1):
        id_ = tool.get("id", f"toolu_{number}_{position}")
        block = {"type": "tool_use", "id": id_, "name": tool["name"], "input": {}}
        raw = tool["raw"] if "raw" in tool else json.dumps(tool.get("input", {}))
        blocks.append((block, "input_json", raw))
    for index, (block, kind, text) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        name = "partial_json" if kind == "input_json" else kind
        for start in range(0, len(text), 12):
            delta = {"type": f"{kind}_delta", name: text[start : start + 12]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = reply.get("stop_reason", "tool_use" if tools else "end_turn")
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop, "stop_sequence": None},
        "usage": {"output_tokens": usage["output_tokens"]},
    }
    yield {"type": "message_stop"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.server.requests.append(Request(headers, body))
        if self.path != "/v1/messages":
            return self._error(404, f"no {self.path} here")
        # The SDK sends the key as a bearer token since 2.x; curl users send x-api-key.
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if not (headers.get("x-api-key") or bearer) or "anthropic-version" not in headers:
            return self._error(401, "an API key and the header anthropic-version are required")
        if words := complaint(body):
            return self._error(400, words)
        reply = next(self.server.replies, None)
        if reply is None:
            return self._error(400, "the script has no more replies")
        if "status" in reply:
            message = reply.get("message", "says the script")
            return self._error(reply["status"], message, reply.get("headers", {}))
        if "body" in reply:
            return self._send(200, reply["body"].encode(), reply.get("content_type", "text/html"))
        return self._stream(reply, body["model"])

    def _stream(self, reply: Mapping[str, Any], model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        all_events = list(events(reply, model, next(self.server.numbers)))
        broken_off = "cut" in reply or "event" in reply
        for event in all_events[: len(all_events) // 2] if broken_off else all_events:
            time.sleep(reply.get("delay_s", 0))
            self._event(event)
        if "event" in reply:
            error = {"type": reply["event"], "message": reply.get("message", "says the script")}
            self._event({"type": "error", "error": error})
        if reply.get("cut") == "broken":
            self.close_connection = True
        else:
            self._chunk(b"")

    def _event(self, event: Mapping[str, Any]) -> None:
        self._chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may have gone
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        error = {"type": TYPES.get(status, "api_error"), "message": message}
        body = {"type": "error", "error": error, "request_id": "req_1"}
        self._send(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": kind}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Plays a script of Messages API replies.")
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with messages_api(json.loads(options.script.read_text("utf-8")), options.port) as server:
        print(server.url, flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
