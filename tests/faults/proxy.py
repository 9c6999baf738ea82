"""A TCP proxy on loopback that does to a connection what networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

_PIECE = 16_384
_LOOK_S = 0.05
_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a reset."""


class Proxy:
    """Passes on what comes to `url`, to a port of this machine; a context.

    `rate`: bytes per second of each connection and direction; None for all that come.
    `late_s`: by how much each piece of what the server says is late.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.rate: float | None = None
        self.late_s = 0.0
        self.passed = 0
        """Bytes that were passed on."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._links: set[_Link] = set()
        self._guard = threading.Lock()
        self._black = False
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def reset(self) -> int:
        """Reset each connection that there is; how many there were."""
        with self._guard:
            links, self._links = self._links, set()
        for link in links:
            link.reset()
        return len(links)

    def swallow(self) -> None:
        """From now on nothing comes through; nor ever on the connections that there are then.

        As behind a firewall that was restarted and knows of no connection: neither end is told.
        """
        with self._guard:
            self._black = True
            for link in self._links:
                link.swallowed = True

    def heal(self) -> None:
        """Pass on as if nothing had been."""
        with self._guard:
            self._black, self.rate, self.late_s = False, None, 0.0

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        # Not with close alone: that leaves who accepts where it is.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.heal()
        self.reset()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                _reset(client)
                continue
            with self._guard:
                link = _Link(client, server, swallowed=self._black)
                self._links.add(link)
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pump, args=(link, source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if source is link.server:
                    self._pause(link, self.late_s)
                if link.swallowed:
                    continue
                for start in range(0, len(data), 1000):
                    piece = data[start : start + 1000]
                    if self.rate:
                        self._pause(link, len(piece) / self.rate)
                    sink.sendall(piece)
                    self.passed += len(piece)
            sink.shutdown(socket.SHUT_WR)
        if link.ended():
            with self._guard:
                self._links.discard(link)

    def _pause(self, link: _Link, seconds: float) -> None:
        """Wait, but not for a connection that is gone, nor after healing."""
        end = time.monotonic() + seconds
        while not link.gone and (self.rate or self.late_s) and time.monotonic() < end:
            time.sleep(min(_LOOK_S, max(end - time.monotonic(), 0.0)))


class _Link:
    """One connection, and the one that it is passed on to."""

    def __init__(self, client: socket.socket, server: socket.socket, *, swallowed: bool) -> None:
        self.client, self.server, self.swallowed = client, server, swallowed
        self.gone = False
        self._ends = 0
        self._guard = threading.Lock()

    def reset(self) -> None:
        self.gone = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
            _reset(end)

    def ended(self) -> bool:
        """One direction has ended; True, and both are closed, when the other one had, too."""
        with self._guard:
            self._ends += 1
            over = self._ends == 2
        if over:
            for end in (self.client, self.server):
                end.close()
        return over


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.close()
