"""A server that answers as an API server would, scripted by the test; and kubeconfigs for it."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from websockets.sync.server import ServerConnection, serve

Answer = tuple[int, dict[str, Any] | str]
TOKEN = "kept-secret"


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    body: Any
    token: str


@dataclass
class Script:
    """What the server answers, one after the other; the last answer again and again."""

    answers: list[Answer]
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)


def failure(code: int, message: str, **details: Any) -> Answer:
    """A Status object."""
    return code, {"kind": "Status", "status": "Failure", "message": message, "details": details}


@contextlib.contextmanager
def answering(*answers: Answer, **headers: str) -> Iterator[tuple[str, Script]]:
    """A server's URL, and what it was asked."""
    script = Script(list(answers), headers)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            script.asked.append(Asked(self.command, self.path, body, token))
            answers = script.answers
            status, content = answers.pop(0) if len(answers) > 1 else answers[0]
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server calls them so

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def streaming(
    handler: Callable[[ServerConnection], None],
    *,
    protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io"),
    **options: Any,
) -> Iterator[str]:
    """The URL of a server that upgrades every request to a websocket, and handles it so."""

    def choose(_: ServerConnection, offered: Any) -> Any:
        return next((name for name in protocols if name in offered), None)

    with serve(
        handler,
        "127.0.0.1",
        0,
        select_subprotocol=choose,
        compression=None,
        max_size=None,
        **options,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def kubeconfig(folder: Path, server: str, **changes: Any) -> Path:
    """A kubeconfig with one context, `lab`; `changes` are to its cluster, context and user."""
    user = changes.get("user", {"token": TOKEN})
    context = {"cluster": "lab", "user": "ada", **changes.get("context", {})}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, **changes.get("cluster", {})}}],
        "contexts": [{"name": "lab", "context": context}],
        "users": [{"name": "ada", "user": user}],
        "current-context": "lab",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file
