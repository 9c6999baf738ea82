"""A port of this machine that leads to a port in a pod: one websocket for each connection.

Each message's first byte is its channel, 0 for data and 1 for the words of an error; the first
message on each channel is the port's number. The protocol cannot say that one direction has ended.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.backends.kubernetes.watching import READ, WRITE, Bell, Watch
from runner.backends.kubernetes.websocket import PING_S, WebSocket, open_websocket
from runner.errors import InfrastructureError, RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client

SUBPROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK = 1 << 18
LIMIT = 1 << 20
"""Bytes that are held of each direction of a connection, at most, give or take a chunk."""
HALF_CLOSED_S = 30.0
"""How long the pod may be silent once the local side has ended its half.

A connection that is done looks the same as one of which one half is: then it is forgotten.
"""
LINGER_S = 2.0
"""How long the local side may take to see the end."""
ENDS_S = 5.0
SPARE_S = 1.0
"""How long the websocket that proved the way is good for the first connection."""
_ABORT = struct.pack("ii", 1, 0)
_log = logging.getLogger(__name__)

Pod = str | Callable[[], str]
Report = Callable[[str], None]


@contextlib.contextmanager
def forward(client: Client, pod: Pod, port: int, *, report: Report = _log.debug) -> Iterator[int]:
    """A port on 127.0.0.1 that leads to `port` of the pod while the context lasts.

    A connection that fails is closed on the local side too, and the next one is tried anew: an
    API server may restart, and where `pod` is a function it is asked each time. `report` is told
    in words why one failed. Raises the errors of translate.py where there is no way at all; where
    `pod` is a function, its pod may come later.
    """
    tunnel = _Tunnel(client, pod, port, report)
    with (
        contextlib.closing(tunnel.stop),
        socket.create_server(("127.0.0.1", 0), backlog=128) as listening,
    ):
        accepting = threading.Thread(
            target=tunnel.accept, args=(listening, tunnel.first()), daemon=True
        )
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            tunnel.stop.ring()
            accepting.join(ENDS_S)
            tunnel.join(ENDS_S)


@dataclass
class _Tunnel:
    client: Client
    pod: Pod
    port: int
    report: Report
    stop: Bell = field(default_factory=Bell)
    threads: set[threading.Thread] = field(default_factory=set)

    def open(self) -> WebSocket:
        """A websocket to the port."""
        pod = self.pod if isinstance(self.pod, str) else self.pod()
        query = [("ports", str(self.port))]
        what = f"open a tunnel to pod {pod}"
        return open_websocket(self.client, pod, "portforward", query, [SUBPROTOCOL], what=what)

    def first(self) -> WebSocket | None:
        """A websocket that proves the way; None where the pod may still come."""
        try:
            return self.open()
        except InfrastructureError as error:
            if isinstance(self.pod, str):
                raise
            self.report(error.message)
            return None

    def accept(self, listening: socket.socket, spare: WebSocket | None) -> None:
        """Serve each local connection in a thread of its own; the first one gets the spare."""
        listening.setblocking(False)
        began = time.monotonic()
        with Watch() as watch:
            watch.set(self.stop, read=True)
            watch.set(listening, read=True)
            while self.stop not in watch.wait(PING_S):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    local, _ = listening.accept()
                    if spare is not None and time.monotonic() - began > SPARE_S:
                        spare.close()
                        spare = None
                    thread = threading.Thread(target=self.serve, args=(local, spare), daemon=True)
                    spare = None
                    self.threads = {item for item in self.threads if item.is_alive()} | {thread}
                    thread.start()
        if spare is not None:
            spare.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the connections' threads, which end by themselves once `stop` rings."""
        end = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    def serve(self, local: socket.socket, spare: WebSocket | None) -> None:
        """One connection, until both sides have ended or one has failed."""
        with local:
            try:
                broken = self._carry(local, spare or self.open())
            except (RunnerError, OSError) as error:
                broken = getattr(error, "message", "") or str(error)
            if broken:  # a plain end would look like the whole of an answer
                _abort(local)
                self.report(f"a connection through the tunnel failed: {broken}")

    def _carry(self, local: socket.socket, websocket: WebSocket) -> str:
        try:
            return _Connection(local, websocket).run(self.stop)
        except ConnectionError:  # the local side broke it off itself
            return ""
        finally:
            websocket.close()


def _abort(local: socket.socket) -> None:
    """Close a connection so that the other side sees an error, not an end."""
    with contextlib.suppress(OSError):
        local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        local.close()


class _Connection:
    """The bytes of one connection, both ways, held back where the other side is slow."""

    def __init__(self, local: socket.socket, websocket: WebSocket) -> None:
        local.setblocking(False)
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local, self.websocket = local, websocket
        self.inbox = bytearray()
        self.greeted: set[int] = set()
        self.error = bytearray()
        self.sending = True
        """Whether the local side may still send."""
        self.last = time.monotonic()

    def run(self, stop: Bell) -> str:
        """Carry bytes until the end; in words why it broke, if it did."""
        websocket, local = self.websocket, self.local
        with Watch() as watch:
            watch.set(stop, read=True)
            while not (websocket.over and not self.inbox):
                reading = len(self.inbox) < LIMIT and not websocket.over
                watch.set(
                    local,
                    read=self.sending and websocket.unsent < LIMIT,
                    write=bool(self.inbox),
                )
                if websocket.over:
                    watch.set(websocket, read=False)
                else:
                    watch.set(websocket, read=reading, write=websocket.unsent > 0)
                ready = watch.wait(0 if websocket.more and reading else self._patience())
                if stop in ready:
                    return ""
                if ready.get(websocket, 0) & WRITE:
                    websocket.flush()
                if reading and (websocket.more or ready.get(websocket, 0) & READ):
                    self._from_pod()
                if ready.get(local, 0) & READ:
                    self._from_local()
                if self.inbox:
                    self._to_local()
                websocket.keep_alive(reading=reading)
                if not self.sending and time.monotonic() - self.last > HALF_CLOSED_S:
                    return ""
            if not websocket.broken and not self.error:
                self._farewell(watch, stop)
        return self.error.decode("utf-8", "replace").strip() or websocket.broken

    def _patience(self) -> float:
        return PING_S if self.sending else min(PING_S, HALF_CLOSED_S)

    def _from_pod(self) -> None:
        for message in self.websocket.receive():
            self.last = time.monotonic()
            channel = message[0] if message else -1
            if channel not in self.greeted:
                self.greeted.add(channel)
            elif channel == DATA:
                self.inbox += memoryview(message)[1:]
            elif channel == ERROR and len(self.error) < CHUNK:
                self.error += memoryview(message)[1:]

    def _from_local(self) -> None:
        try:
            data = self.local.recv(CHUNK)
        except BlockingIOError:
            return
        if data:
            self.websocket.send(bytes((DATA,)) + data)
        else:
            self.sending = False
        self.last = time.monotonic()

    def _to_local(self) -> None:
        try:
            sent = self.local.send(self.inbox)
        except BlockingIOError:
            return
        del self.inbox[:sent]
        self.last = time.monotonic()

    def _farewell(self, watch: Watch, stop: Bell) -> None:
        """Let the local side read to the end: what it still sends must not make a reset of it."""
        self.local.shutdown(socket.SHUT_WR)
        watch.set(self.local, read=True)
        end = time.monotonic() + LINGER_S
        while self.sending and time.monotonic() < end:
            ready = watch.wait(end - time.monotonic())
            if stop in ready or not ready:
                return
            with contextlib.suppress(BlockingIOError):
                self.sending = bool(self.local.recv(CHUNK))
