"""The tunnel and exec over their websockets, against a server that is scripted."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from api_server import TOKEN, kubeconfig, streaming
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from runner.backends.kubernetes import client as client_module
from runner.backends.kubernetes import exec as pod_exec
from runner.backends.kubernetes import tunnel as tunnel_module
from runner.backends.kubernetes.client import Client, connect
from runner.backends.kubernetes.translate import Forbidden, Transient
from runner.backends.kubernetes.tunnel import forward
from runner.backends.reach import ExecError
from runner.errors import InfrastructureError

PORT = 8888
GREETING = PORT.to_bytes(2, "little")
Connect = Callable[[str], Client]
MB = 1 << 20


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connect:
    """The client of a scripted server."""
    monkeypatch.setattr(client_module, "FIRST_S", 0.3)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    def to(url: str, **changes: Any) -> Client:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, url, **changes)))
        return connect(namespace="team")

    return to


def eventually(true: Callable[[], object], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def greet(server: ServerConnection) -> None:
    for channel in (0, 1):
        server.send(bytes((channel,)) + GREETING)


def echo(server: ServerConnection) -> None:
    """What a pod would do that sends everything back."""
    greet(server)
    with contextlib.suppress(ConnectionClosed):
        for message in server:
            assert isinstance(message, bytes)
            server.send(message)


def whole(sock: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = sock.recv(1 << 16)
        if not piece:
            break
        got += piece
    return bytes(got)


@contextlib.contextmanager
def local(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        yield sock


# -- the tunnel ----------------------------------------------------------------------------


def test_bytes_go_both_ways(connected: Connect) -> None:
    asked = []

    def handler(server: ServerConnection) -> None:
        assert server.request is not None
        asked.append((server.request.path, server.request.headers["Authorization"]))
        echo(server)

    with streaming(handler) as url, forward(connected(url), "pod-1", PORT) as port:
        with local(port) as sock:
            sock.sendall(b"hello")
            assert whole(sock, 5) == b"hello"
        with local(port) as sock:
            sock.sendall(bytes(range(256)))
            assert whole(sock, 256) == bytes(range(256))
    path = f"/api/v1/namespaces/team/pods/pod-1/portforward?ports={PORT}"
    assert asked == [(path, f"Bearer {TOKEN}")] * 2


def test_much_both_ways_at_once_comes_to_no_halt(connected: Connect) -> None:
    data = bytes(range(256)) * (MB * 20 // 256)
    with streaming(echo) as url, forward(connected(url), "pod", PORT) as port, local(port) as sock:
        sending = threading.Thread(target=sock.sendall, args=(data,))
        sending.start()
        assert whole(sock, len(data)) == data
        sending.join()


def test_a_slow_reader_holds_the_pod_back(connected: Connect) -> None:
    sent = []

    def flood(server: ServerConnection) -> None:
        greet(server)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                server.send(b"\0" + b"x" * MB)
                sent.append(1)

    with streaming(flood) as url, forward(connected(url), "pod", PORT) as port, local(port) as sock:
        sock.recv(1)
        before = -1
        while before != len(sent):  # until nothing moves any more
            before = len(sent)
            time.sleep(0.3)
        assert len(sent) < 60  # what the buffers of three sockets and of the tunnel hold
        assert len(whole(sock, 200 * MB - 1)) == 200 * MB - 1


def test_the_end_of_the_pod_s_side_is_an_end(connected: Connect) -> None:
    def speak(server: ServerConnection) -> None:
        greet(server)
        server.send(b"\0the whole")

    with streaming(speak) as url, forward(connected(url), "pod", PORT) as port, local(port) as sock:
        assert whole(sock, 1000) == b"the whole"


def test_the_local_side_may_end_its_half(connected: Connect) -> None:
    def late(server: ServerConnection) -> None:
        greet(server)
        assert server.recv() == b"\0question"
        time.sleep(0.2)
        server.send(b"\0answer")

    with streaming(late) as url, forward(connected(url), "pod", PORT) as port, local(port) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert whole(sock, 1000) == b"answer"


def test_a_connection_that_is_done_is_forgotten(
    connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "HALF_CLOSED_S", 0.1)
    over = threading.Event()

    def handler(server: ServerConnection) -> None:
        echo(server)
        over.set()

    with streaming(handler) as url, forward(connected(url), "pod", PORT) as port:
        with local(port) as sock:
            sock.sendall(b"x")
            whole(sock, 1)
        assert over.wait(10)


def test_a_dropped_websocket_is_an_error_and_no_end(connected: Connect) -> None:
    def drop(server: ServerConnection) -> None:
        greet(server)
        server.send(b"\0half of it")
        server.recv()
        server.socket.shutdown(socket.SHUT_RDWR)

    said: list[str] = []
    with streaming(drop) as url, forward(connected(url), "pod", PORT, report=said.append) as port:
        with local(port) as sock:
            assert whole(sock, 10) == b"half of it"
            sock.sendall(b"go on")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        eventually(lambda: said)
    assert "cut off" in said[0]


def test_the_error_channel_s_words(connected: Connect) -> None:
    def refuse(server: ServerConnection) -> None:
        greet(server)
        server.send(b"\1dial tcp4 127.0.0.1:8888: connect: connection refused")

    said: list[str] = []
    with streaming(refuse) as url, forward(connected(url), "pod", PORT, report=said.append) as port:
        with pytest.raises(ConnectionResetError), local(port) as sock:
            sock.recv(1)
        eventually(lambda: said)
    assert "connection refused" in said[0]


def test_many_connections_at_once(connected: Connect) -> None:
    def trip(port: int, number: int, answers: list[bytes]) -> None:
        data = b"%06d" % number * 20_000
        with local(port) as sock:
            threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
            if whole(sock, len(data)) == data:
                answers.append(data[:6])

    answers: list[bytes] = []
    with streaming(echo) as url, forward(connected(url), "pod", PORT) as port:
        threads = [threading.Thread(target=trip, args=(port, n, answers)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(answers)) == 40


def test_nothing_is_left_when_the_context_ends(connected: Connect) -> None:
    before = threading.active_count()
    with streaming(echo) as url:
        with forward(connected(url), "pod", PORT) as port:
            opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            for sock in opened:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        for sock in opened:
            with sock, contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    eventually(lambda: threading.active_count() <= before)


def test_the_pod_is_asked_for_each_time(
    connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "SPARE_S", 0.0)
    paths: list[str] = []

    def handler(server: ServerConnection) -> None:
        assert server.request is not None
        paths.append(server.request.path)
        echo(server)

    names = iter(("first", "second", "third"))

    def pod() -> str:
        name = next(names, "")
        if name == "third":
            raise InfrastructureError("no pod runs now")
        return name

    said: list[str] = []
    with streaming(handler) as url, forward(connected(url), pod, PORT, report=said.append) as port:
        with local(port) as sock:
            sock.sendall(b"x")
            assert whole(sock, 1) == b"x"
        with pytest.raises(ConnectionResetError), local(port) as sock:
            sock.recv(1)
        eventually(lambda: said)
    assert [path.split("/")[-2] for path in paths] == ["first", "second"]
    assert "no pod runs now" in said[0]


def test_a_pod_that_is_not_there_yet(connected: Connect) -> None:
    names: list[str] = []

    def pod() -> str:
        if not names:
            raise InfrastructureError("no pod runs now")
        return names[0]

    with streaming(echo) as url, forward(connected(url), pod, PORT) as port:
        with pytest.raises(ConnectionResetError), local(port) as sock:
            sock.recv(1)
        names.append("pod")
        with local(port) as sock:
            sock.sendall(b"x")
            assert whole(sock, 1) == b"x"


def test_a_refused_tunnel_is_told_at_the_beginning(connected: Connect) -> None:
    message = (
        'User "ada" cannot get resource "pods/portforward" in API group "" in the namespace "t"'
    )

    def refuse(server: ServerConnection, _: Any) -> Any:
        return server.respond(HTTPStatus.FORBIDDEN, json.dumps({"message": message}))

    with (
        streaming(echo, process_request=refuse) as url,
        pytest.raises(Forbidden, match="ada may not get pods/portforward"),
        forward(connected(url), "pod", PORT),
    ):
        raise AssertionError


def test_through_a_proxy(connected: Connect, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def proxy(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                asked.append(near.recv(4096))
                near.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                near.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=proxy, args=(listening,), daemon=True).start()
        way = f"http://127.0.0.1:{listening.getsockname()[1]}"
        client = connected("https://cluster.example:6443", cluster={"proxy-url": way})
        with pytest.raises(Transient, match="403 No"), forward(client, "pod", PORT):
            raise AssertionError
        listening.shutdown(socket.SHUT_RDWR)
    assert asked[0].startswith(b"CONNECT cluster.example:6443 ")


# -- exec ----------------------------------------------------------------------------------


def ended(server: ServerConnection, code: int = 0) -> None:
    status: dict[str, Any] = {"status": "Success"}
    if code:
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status = {"status": "Failure", "message": "failed", "details": {"causes": causes}}
    server.send(b"\3" + json.dumps(status).encode())


def test_output_comes_as_it_is_written(connected: Connect) -> None:
    asked = []

    def handler(server: ServerConnection) -> None:
        assert server.request is not None
        asked.append(server.request.path)
        for channel in (1, 2, 3):
            server.send(bytes((channel,)))  # servers begin so
        server.send(b"\1one ")
        server.send(b"\2warned")
        server.send(b"\1two")
        ended(server)

    with streaming(handler) as url:
        ran = pod_exec.run(connected(url), "p", "agent", ["ls", "a b", "c&d"])
        assert list(ran) == [b"one ", b"two"]
    assert ran.stderr == "warned"
    assert asked == [
        "/api/v1/namespaces/team/pods/p/exec?container=agent&command=ls&command=a+b"
        "&command=c%26d&stdout=true&stderr=true"
    ]


def test_output_after_the_status_is_not_lost(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        ended(server)
        server.send(b"\1late")

    with streaming(handler) as url:
        assert list(pod_exec.run(connected(url), "p", "c", ["x"])) == [b"late"]


def test_a_failure_has_its_code_and_last_words(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        server.send(b"\1partly")
        server.send(b"\2" + b"x" * 100_000 + b"no such run")
        ended(server, 4)

    with streaming(handler) as url:
        ran = pod_exec.run(connected(url), "p", "agent", ["send", "run"])
        assert next(ran) == b"partly"
        with pytest.raises(ExecError, match="run send in p/agent: exit status 4: x+no such") as why:
            next(ran)
    assert (why.value.code, why.value.exit_status) == (4, 3)
    assert len(why.value.stderr) == pod_exec.STDERR_BYTES
    assert len(str(why.value)) < 700


def test_a_command_that_does_not_start(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        server.send(b"\3" + json.dumps({"status": "Failure", "message": "not found"}).encode())

    with streaming(handler) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["nix"])
        with pytest.raises(ExecError, match="not found") as caught:
            list(ran)
    assert caught.value.code is None


def test_a_connection_that_is_cut_is_no_success(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        server.send(b"\1half")
        server.socket.shutdown(socket.SHUT_RDWR)

    with streaming(handler) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["x"])
        with pytest.raises(Transient, match="run x in p/c: the connection was cut off"):
            list(ran)


def test_input_is_sent_and_closed(connected: Connect) -> None:
    got = bytearray()

    def handler(server: ServerConnection) -> None:
        for message in server:
            assert isinstance(message, bytes)
            if message == b"\xff\0":
                break
            assert message[0] == 0
            got.extend(message[1:])
        ended(server)

    chunks = [b"", b"a" * 3 * MB, b"b"]
    with streaming(handler) as url:
        assert list(pod_exec.run(connected(url), "p", "c", ["x"], chunks)) == []
    assert got == b"".join(chunks)


def test_much_input_and_output_at_once(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        for message in server:
            assert isinstance(message, bytes)
            if message == b"\xff\0":
                break
            server.send(b"\1" + message[1:])
        ended(server)

    with streaming(handler) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["cat"], (b"x" * MB for _ in range(20)))
        assert sum(map(len, ran)) == 20 * MB


def test_a_server_that_has_v4_only(connected: Connect) -> None:
    def handler(server: ServerConnection) -> None:
        assert server.subprotocol == "v4.channel.k8s.io"
        assert server.recv() == b"\0line"
        server.send(b"\1ok")
        ended(server)

    with streaming(handler, protocols=("v4.channel.k8s.io",)) as url:
        assert list(pod_exec.run(connected(url), "p", "c", ["x"], [b"line"])) == [b"ok"]


def test_an_error_of_the_input_is_raised(connected: Connect) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("the file changed")

    with streaming(echo_nothing) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["x"], chunks())
        with pytest.raises(ValueError, match="the file changed"):
            list(ran)


def echo_nothing(server: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in server:
            pass


def test_it_can_be_closed_while_another_thread_waits(connected: Connect) -> None:
    release = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"x"
        release.wait(20)

    before = threading.active_count()
    with streaming(echo_nothing) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["x"], chunks())
        closing = threading.Timer(0.2, ran.close)
        closing.start()
        assert list(ran) == []
        closing.join()
        ran.close()
        release.set()
    eventually(lambda: threading.active_count() <= before)


def test_one_that_is_never_read_is_closed(connected: Connect) -> None:
    over = threading.Event()

    def handler(server: ServerConnection) -> None:
        echo_nothing(server)
        over.set()

    with streaming(handler) as url:
        with pod_exec.run(connected(url), "p", "c", ["x"]):
            pass
        assert over.wait(10)


def test_idle_connections_are_pinged(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.backends.kubernetes import websocket

    monkeypatch.setattr(websocket, "PING_S", 0.1)
    monkeypatch.setattr(pod_exec, "PING_S", 0.05)
    pinged = threading.Event()

    def handler(server: ServerConnection) -> None:
        received = server.protocol.recv_frame

        def noticed(frame: Any) -> None:
            if frame.opcode == 9:
                pinged.set()
            received(frame)

        server.protocol.recv_frame = noticed  # type: ignore[method-assign]
        pinged.wait(10)
        ended(server)

    with streaming(handler) as url:
        assert list(pod_exec.run(connected(url), "p", "c", ["x"])) == []
    assert pinged.is_set()


def test_a_dead_peer_is_given_up(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.backends.kubernetes import websocket

    monkeypatch.setattr(websocket, "DEAD_S", 0.2)
    monkeypatch.setattr(pod_exec, "PING_S", 0.05)
    release = threading.Event()

    def silent(server: ServerConnection) -> None:
        release.wait(20)

    with streaming(silent) as url:
        ran = pod_exec.run(connected(url), "p", "c", ["x"])
        with pytest.raises(Transient, match="no answer for"):
            list(ran)
        release.set()
