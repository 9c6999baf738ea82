"""A websocket of the API server, for `exec` and `portforward`.

Without threads: its owner waits with a selector, and takes and gives what is there. The
`websockets` package has threads of its own in its sync client, which holds a lock while it
sends; there a peer that sends and is sent much at the same time comes to a halt for ever.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from runner.backends.kubernetes.client import CONNECT_S
from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import Transient, refusal, translated
from runner.errors import InfrastructureError

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

    from runner.backends.kubernetes.client import Client

READ_BYTES = 1 << 18
PING_S = 30.0
"""Idle connections are dropped by proxies and load balancers after a minute or more."""
DEAD_S = 180.0
"""How long pings may go unanswered. A peer that waits for its pod to read answers none."""
_ANSWER_S = 30.0
_GOOD_ENDS = (1000, 1001, 1005)


class WebSocket:
    """An open websocket. One thread uses it.

    `over` says that nothing comes any more; `broken` in words that it ended without saying so.
    """

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        """Take over a connection whose handshake is done; open_websocket makes them."""
        self._sock, self._protocol = sock, protocol
        self._unsent: deque[memoryview] = deque()
        self._part: list[bytes] = []
        self._pinged = self._heard = time.monotonic()
        self.unsent = 0
        self.over = False
        self.broken = ""
        self.more = True  # frames may have come with the handshake's answer
        sock.setblocking(False)

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    @property
    def subprotocol(self) -> str:
        """What the server chose of the ones that it was offered."""
        return self._protocol.subprotocol or ""

    def receive(self) -> list[bytes]:
        """The messages that have come; `more` if there may be others that no selector tells of."""
        self.more, broken = False, ""
        try:
            data = self._sock.recv(READ_BYTES)
            self._heard = time.monotonic()
            if data:
                self._protocol.receive_data(data)
                # TLS has read and decrypted more than it gave: the selector does not see that
                self.more = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
            else:
                self._protocol.receive_eof()
                broken = "the connection was cut off"
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # what came with the handshake's answer is still to be looked at
        except OSError as error:
            broken = str(error) or type(error).__name__
        messages = self._messages()
        self.flush()  # pongs, and the answer to a close
        said, wrong = self._protocol.close_rcvd, self._protocol.parser_exc
        if said is not None:
            self._end("" if said.code in _GOOD_ENDS else said.reason or str(said))
        elif broken or wrong is not None:
            self._end(broken or str(wrong))
        return messages

    def send(self, message: bytes) -> None:
        """Send a message, at once as far as the network takes it; the rest is `unsent` bytes."""
        if self._open():
            self._protocol.send_binary(message)
            self.flush()

    def flush(self) -> None:
        """Send on what is `unsent`."""
        for data in self._protocol.data_to_send():
            if data:
                self._unsent.append(memoryview(data))
                self.unsent += len(data)
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent[0])
                self.unsent -= sent
                rest = self._unsent.popleft()[sent:]
                if rest:
                    self._unsent.appendleft(rest)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            if self._protocol.close_rcvd is None:
                self._end(str(error) or type(error).__name__)

    def keep_alive(self, *, reading: bool) -> None:
        """Call it every few seconds: it pings, and ends what has long answered nothing."""
        now = time.monotonic()
        if not reading:
            self._heard = now
        if now - self._heard > DEAD_S:
            self._end(f"no answer for {DEAD_S:.0f} s")
        elif now - self._pinged > PING_S and self._open():
            self._pinged = now
            self._protocol.send_ping(b"")
            self.flush()

    def close(self) -> None:
        """Say that it ends, as far as that goes without waiting, and close the connection."""
        try:
            if self._open():
                self._protocol.send_close(1000)
                self.flush()
        finally:
            self.over = True
            self._sock.close()

    def _open(self) -> bool:
        """Whether there is still something to say; a protocol error may have ended it unseen."""
        from websockets.protocol import OPEN

        if not self.over and self._protocol.state is not OPEN:
            self._end(str(self._protocol.parser_exc or "the connection is closing"))
        return not self.over

    def _messages(self) -> list[bytes]:
        """Whole messages out of the frames that have come."""
        from websockets.frames import DATA_OPCODES, Frame

        messages = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                self._part.append(bytes(event.data))
                if event.fin:
                    messages.append(self._part[0] if len(self._part) == 1 else b"".join(self._part))
                    self._part = []
        return messages

    def _end(self, broken: str) -> None:
        if not self.over:
            self.over, self.broken = True, broken
            self._unsent.clear()
            self.unsent = 0


def open_websocket(
    client: Client,
    pod: str,
    subresource: str,
    query: Sequence[tuple[str, str]],
    subprotocols: Sequence[str],
    *,
    what: str,
) -> WebSocket:
    """Open a websocket to a pod's subresource. `what` says for errors what it is for.

    An API server that restarts is waited for, for some seconds. Raises the errors of translate.py.
    """
    path = f"{path_of('pods', client.namespace, pod)}/{subresource}?{urlencode(query)}"
    return client.patiently(
        lambda: _open(client, path, subprotocols, what),
        passes=lambda error: isinstance(error, Transient),
    )


def _open(client: Client, path: str, subprotocols: Sequence[str], what: str) -> WebSocket:
    from websockets.client import ClientProtocol
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.protocol import State
    from websockets.typing import Subprotocol
    from websockets.uri import parse_uri

    access = client.access
    uri = parse_uri(access.server.replace("http", "ws", 1) + path)
    offered = [Subprotocol(name) for name in subprotocols]
    protocol = ClientProtocol(uri, subprotocols=offered, max_size=None)
    protocol.debug = False  # it would log the Authorization header
    with translated(what, server=access.server):
        sock = _connected(client, what)
        try:
            request = protocol.connect()
            authorization = access.authorization()
            if authorization:
                request.headers["Authorization"] = authorization
            protocol.send_request(request)
            for data in protocol.data_to_send():
                sock.sendall(data)
            while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
                data = sock.recv(READ_BYTES)
                if data:
                    protocol.receive_data(data)
                else:
                    protocol.receive_eof()
            client.reached = True
            failed = protocol.handshake_exc
            if isinstance(failed, InvalidStatus):
                body = (failed.response.body or b"").decode("utf-8", "replace")
                raise refusal(what, failed.response.status_code, body)
            if isinstance(failed, InvalidHandshake | EOFError):
                raise Transient(f"cannot {what}: the API server gave up: {failed}") from failed
        except BaseException:
            sock.close()
            raise
    return WebSocket(sock, protocol)


def _connected(client: Client, what: str) -> socket.socket:
    """A connection as the official client makes them: TLS, client certificate, proxy and all."""
    pool = client.api.rest_client.pool_manager.connection_from_url(client.access.server)
    connection = pool._new_conn()
    connection.timeout = CONNECT_S
    try:
        if connection.proxy is not None:
            pool._prepare_proxy(connection)
        else:
            connection.connect()
    except BaseException:
        connection.close()
        raise
    sock = getattr(connection, "sock", None)
    if not isinstance(sock, socket.socket):  # TLS in TLS is no socket that could be waited for
        connection.close()
        raise InfrastructureError(
            f"cannot {what}: the proxy wants TLS itself, which carries no tunnel",
            hint="name a proxy with http:// in HTTPS_PROXY or in the kubeconfig's `proxy-url`",
        )
    sock.settimeout(_ANSWER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
