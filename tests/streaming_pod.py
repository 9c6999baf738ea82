"""A pod to stream to and from: an HTTP server and an echo; and a relay that plays a bad network."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import yaml

from runner.backends.kubernetes.client import Client

HTTP, ECHO = 8000, 8001
NAME = "streams"
SERVER = f"""
import http.server, socketserver, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        size = int(self.path[1:])
        self.answer(b"x" * size)
    def do_POST(self):
        left, total = int(self.headers["Content-Length"]), 0
        while left:
            total += len(piece := self.rfile.read(min(left, 1 << 16)))
            left -= len(piece)
        self.answer(str(total).encode())
    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)

class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

class HttpServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128

echo = EchoServer(("", {ECHO}), Echo)
threading.Thread(target=echo.serve_forever).start()
http_server = HttpServer(("", {HTTP}), Handler)
print("ready", flush=True)
http_server.serve_forever()
"""


def manifest(values: Path, name: str = NAME) -> dict[str, object]:
    """The pod, of the first image of the catalogue, as Pod Security "restricted" wants it."""
    image = yaml.safe_load(values.read_text())["images"]["catalogue"][0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image["image"],
                    "command": ["tini", "--", image["python"], "-c", SERVER],
                    "resources": {
                        "requests": {"cpu": "20m", "memory": "32Mi"},
                        "limits": {"cpu": "1", "memory": "256Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


@contextlib.contextmanager
def streaming_pod(client: Client, values: Path, name: str = NAME) -> Iterator[str]:
    """The pod's address, once its servers listen."""
    client.create("pods", manifest(values, name))
    try:
        end = time.monotonic() + 120
        while True:
            status = client.read("pods", name)["status"]
            if status["phase"] == "Running" and b"ready" in b"".join(client.log(name, "main")):
                break
            assert time.monotonic() < end, status
            time.sleep(0.2)
        yield str(status["podIP"])
    finally:
        client.delete("pods", name, grace_s=0)


class Relay:
    """A port that leads to the API server, until it is cut; and again once it is healed."""

    def __init__(self, server: str) -> None:
        url = urlparse(server)
        self._to = (url.hostname or "", url.port or 443)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._start()

    def cut(self) -> None:
        """Drop every connection, and refuse new ones; once more changes nothing."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Accept connections again, on the same port."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(self._to)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        self._open.add(source)
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            self._open.discard(source)
            source.close()


@contextlib.contextmanager
def relayed(kubeconfig: Path, folder: Path) -> Iterator[tuple[Path, Relay]]:
    """A kubeconfig whose API server is behind a relay."""
    content = yaml.safe_load(kubeconfig.read_text())
    for item in content["clusters"]:
        cluster = item["cluster"]
        relay = Relay(cluster["server"])
        cluster["tls-server-name"] = urlparse(cluster["server"]).hostname
        cluster["server"] = f"https://127.0.0.1:{relay.port}"
    file = folder / "relayed.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(content))
    try:
        yield file, relay
    finally:
        relay.cut()


def connect_as(kubeconfig: Path, namespace: str) -> Client:
    """Our client with this kubeconfig."""
    from runner.backends.kubernetes.client import connect

    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        return connect(namespace=namespace)
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before
