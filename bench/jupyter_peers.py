"""Jupyter's own ways to run a cell: ZMQ, the kernel websocket, jupyter-mcp-server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from websockets.sync.client import ClientConnection, connect

PEERS = Path(__file__).parent.parent / "build" / "peers"
"""The environment of peers.txt, which `make bench` makes."""
READY_S = 60.0


@contextlib.contextmanager
def zmq_kernel(top: Path) -> Iterator[Callable[[str], Any]]:
    """A kernel over ZMQ on Unix sockets, and nothing between it and us."""
    manager = KernelManager(transport="ipc", ip=str(top / "k"))
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=READY_S)

    def run(source: str) -> None:
        client.execute_interactive(
            source, output_hook=lambda _: None, allow_stdin=False, timeout=READY_S
        )

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@dataclass(frozen=True)
class Server:
    """A jupyter_server that answers."""

    url: str
    token: str

    @contextlib.contextmanager
    def http(self) -> Iterator[httpx.Client]:
        """A client of its REST interface."""
        headers = {"Authorization": f"token {self.token}"}
        with httpx.Client(
            base_url=self.url, headers=headers, timeout=READY_S, trust_env=False
        ) as client:
            yield client


@contextlib.contextmanager
def jupyter_server(top: Path, python: str = sys.executable) -> Iterator[Server]:
    """A server as `jupyter server` starts it, of this environment or of another Python's."""
    top.mkdir()
    server = Server(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16))
    own = {f"JUPYTER_{kind}_DIR": str(top / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    flags = ["--no-browser", "--allow-root", f"--port={server.url.rpartition(':')[2]}"]
    process = subprocess.Popen(
        [python, "-m", "jupyter_server", *flags, f"--ServerApp.root_dir={top}"],
        env={**os.environ, **own, "PATH": path, "JUPYTER_TOKEN": server.token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with server.http() as client:
            _wait_for(client)
        yield server
    finally:
        process.terminate()
        process.wait()


SILENT_S = 2.0
"""How long after a kernel's reply its last output may be silent before it is given up."""


@contextlib.contextmanager
def kernel_client(server: Server) -> Iterator[Callable[[str], Any]]:
    """jupyter_kernel_client, on a kernel of that server."""
    from jupyter_kernel_client import JupyterKernelClient

    with JupyterKernelClient(server_url=server.url, token=server.token) as client:
        yield client.execute


class _Acknowledging(socket.socket):
    """A socket that acknowledges at once what it gets, as no client of Jupyter's does."""

    def recv(self, *args: Any) -> bytes:
        # Not once for all: the kernel forgets it.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return super().recv(*args)


@contextlib.contextmanager
def kernel_websocket(server: Server, *, quickack: bool) -> Iterator[Callable[[str], str]]:
    """The kernel websocket by hand, on a kernel of its own; gives what a cell printed."""
    with server.http() as client:
        kernel = client.post("/api/kernels", json={}).raise_for_status().json()["id"]
    host, port = server.url.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)), READY_S)
    raw.settimeout(None)
    held = _Acknowledging(fileno=raw.detach()) if quickack else raw
    with connect(
        f"ws://{host}:{port}/api/kernels/{kernel}/channels",
        sock=held,
        max_size=None,
        additional_headers={"Authorization": f"token {server.token}"},
    ) as channel:
        yield lambda source: _executed(channel, source)


def _executed(channel: ClientConnection, source: str) -> str:
    """Send it, and read until the kernel has answered and is idle."""
    asked = uuid.uuid4().hex
    header = {"msg_id": asked, "msg_type": "execute_request", "username": "", "session": "bench"}
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
    message = {"channel": "shell", "header": header | {"version": "5.3"}, "content": content}
    channel.send(json.dumps(message | {"parent_header": {}, "metadata": {}}))
    printed: list[str] = []
    open_ends = {"execute_reply", "status"}
    while open_ends:
        answered = "execute_reply" not in open_ends
        try:
            said = json.loads(channel.recv(SILENT_S if answered else None))
        except TimeoutError:  # among what its sockets have dropped is that it is idle
            break
        kind = said["header"]["msg_type"]
        if said["parent_header"].get("msg_id") != asked:
            continue
        if kind == "stream" and said["content"]["name"] == "stdout":
            printed.append(said["content"]["text"])
        if kind != "status" or said["content"]["execution_state"] == "idle":
            open_ends.discard(kind)
    return "".join(printed)


@contextlib.contextmanager
def mcp_server(top: Path) -> Iterator[Callable[[str], Any]]:
    """jupyter-mcp-server in its Jupyter server, its fastest way: a cell added and run."""
    with jupyter_server(top, str(PEERS / "bin" / "python")) as server, server.http() as client:

        def call(tool: str, **arguments: Any) -> None:
            body = {"tool_name": tool, "arguments": arguments}
            answer = client.post("/mcp/tools/call", json=body).raise_for_status().json()
            assert answer["success"] and not answer["result"]["isError"], answer

        call("use_notebook", notebook_name="n", notebook_path="n.ipynb", mode="create")
        yield lambda source: call("insert_execute_code_cell", cell_index=-1, cell_source=source)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_for(client: httpx.Client) -> None:
    end = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/api").status_code == 200:
                return
        assert time.monotonic() < end, f"no Jupyter server at {client.base_url}"
        time.sleep(0.1)
