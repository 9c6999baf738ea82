"""The tunnel into a pod of a real cluster."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from streaming_pod import ECHO, HTTP, NAME, connect_as, relayed, streaming_pod

from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.translate import NotFound
from runner.backends.kubernetes.tunnel import forward

pytestmark = pytest.mark.cluster

SIZE = 100_000_000


@pytest.fixture(scope="module")
def client(kubeconfig: Path, namespace: str) -> Client:
    return connect_as(kubeconfig, namespace)


@pytest.fixture(scope="module")
def pod(client: Client, images: Path) -> Iterator[str]:
    """A pod that listens."""
    with streaming_pod(client, images):
        yield NAME


def eventually(true: Callable[[], object], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def whole(sock: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count and (piece := sock.recv(1 << 16)):
        got += piece
    return bytes(got)


def test_a_hundred_megabytes_down_and_up(client: Client, pod: str) -> None:
    with forward(client, pod, HTTP) as port, httpx.Client(timeout=60) as http:
        base = f"http://127.0.0.1:{port}"
        assert http.get(f"{base}/{SIZE}").content == b"x" * SIZE
        assert http.post(base, content=b"x" * SIZE).text == str(SIZE)


def test_a_hundred_megabytes_both_ways_at_once(client: Client, pod: str) -> None:
    block = os.urandom(1_000_000)
    sent, got = hashlib.sha256(block * 100), hashlib.sha256()
    with (
        forward(client, pod, ECHO) as port,
        socket.create_connection(("127.0.0.1", port), 60) as sock,
    ):
        sending = threading.Thread(target=lambda: [sock.sendall(block) for _ in range(100)])
        sending.start()
        left = SIZE
        while left and (piece := sock.recv(1 << 16)):
            got.update(piece)
            left -= len(piece)
        sending.join()
    assert (left, got.hexdigest()) == (0, sent.hexdigest())


def test_many_connections_at_once(client: Client, pod: str) -> None:
    answers: list[int] = []

    def fetch(port: int, number: int) -> None:
        answer = httpx.get(f"http://127.0.0.1:{port}/{100_000 + number}", timeout=60)
        answers.append(len(answer.content))

    with forward(client, pod, HTTP) as port:
        threads = [threading.Thread(target=fetch, args=(port, n)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [100_000 + number for number in range(40)]


def test_a_port_where_nobody_listens(client: Client, pod: str) -> None:
    said: list[str] = []
    with forward(client, pod, 9, report=said.append) as port:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/1")
        eventually(lambda: said)
    assert "connection refused" in said[0]


def test_a_network_that_goes_away_and_comes_back(
    kubeconfig: Path, namespace: str, pod: str, tmp_path: Path
) -> None:
    """A restart of the API server is no more than this, seen from here."""
    with relayed(kubeconfig, tmp_path) as (file, relay):
        client = connect_as(file, namespace)
        with forward(client, pod, HTTP) as port:
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/10").content == b"x" * 10
            with contextlib.closing(socket.create_connection(("127.0.0.1", port), 30)) as sock:
                sock.sendall(b"GET /%d HTTP/1.1\r\n\r\n" % SIZE)
                assert whole(sock, 1000)
                relay.cut()
                with pytest.raises(ConnectionResetError):  # and no end that looks like a whole
                    whole(sock, SIZE)
            threading.Timer(3.0, relay.heal).start()
            answer = httpx.get(f"{url}/20", timeout=60)  # waits for the way to come back
            assert answer.content == b"x" * 20
        assert client.read("pods", pod)["metadata"]["name"] == pod


def test_reads_wait_for_the_way_to_come_back(
    kubeconfig: Path, namespace: str, pod: str, tmp_path: Path
) -> None:
    with relayed(kubeconfig, tmp_path) as (file, relay):
        client = connect_as(file, namespace)
        assert client.list("pods")
        relay.cut()
        threading.Timer(3.0, relay.heal).start()
        assert client.list("pods")


def test_a_pod_that_is_gone(client: Client, images: Path) -> None:
    with streaming_pod(client, images, "short") as _, forward(client, "short", HTTP) as port:
        url = f"http://127.0.0.1:{port}/1"
        with httpx.Client(timeout=60) as http:
            assert http.get(url).content == b"x"
            client.delete("pods", "short", grace_s=0)
            eventually(lambda: not client.list("pods", fields="metadata.name=short"))

            def refused() -> bool:
                try:
                    http.get(url)
                except httpx.TransportError:
                    return True
                return False

            eventually(refused)
    with pytest.raises(NotFound, match="open a tunnel to pod short"), forward(client, "short", 1):
        raise AssertionError


def test_nothing_is_left(client: Client, pod: str) -> None:
    before = threading.active_count()
    with forward(client, pod, HTTP) as port:
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/1").content == b"x"
    eventually(lambda: threading.active_count() <= before)
