"""Whoever has no token gets nothing from a sandbox server, nor keeps others from theirs."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
import schemathesis
from hypothesis import settings
from sandbox_process import SandboxProcess, sandbox
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from runner.sandbox.handlers import OPENAPI
from runner.sandbox.server import LARGEST_BODY
from runner.session import Session

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text())
ROUTES = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method in ("get", "post", "put")
]
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
REQUESTS = schemathesis.openapi.from_path(OPENAPI).exclude(path="/runner/v1/shutdown")
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
INNER = {"wait": 0}
"""Instead of what schemathesis has thought of: so that no request waits for half a minute."""
CUT_S = 60.0
OUTSIDE = b"not for you"
WAYS_OUT = ["../outside", "a/../../outside", "link", "/outside", "..\\outside", "..", "\0", "."]
UNANSWERABLE = ["loop", "x" * 300, "/".join("y" * 5000)]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    top = tmp_path_factory.mktemp("hostile")
    (top / "outside").write_bytes(OUTSIDE)
    with sandbox(top, headers_s=2, body_s=2) as made:
        (made.workspace / "link").symlink_to(top / "outside")
        (made.workspace / "loop").symlink_to("loop")
        yield made
        assert (top / "outside").read_bytes() == OUTSIDE


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


def ask(
    box: SandboxProcess, method: str, target: str, body: bytes = b"", *, token: str | None
) -> tuple[int, bytes]:
    """The answer to a request whose address is sent as it is."""
    headers = {} if token is None else {"Authorization": f"token {token}"}
    connection = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=CUT_S)
    with contextlib.closing(connection):
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def connected(box: SandboxProcess, sent: bytes) -> socket.socket:
    """A connection on which only this was sent."""
    where = urlsplit(box.url)
    made = socket.create_connection((where.hostname, where.port), timeout=CUT_S)
    made.sendall(sent)
    return made


def closed(connection: socket.socket) -> bytes:
    """What came until the server closed the connection; TimeoutError where it does not."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(1 << 16):
            said += data
    return said


def filled(path: str, value: str) -> str:
    """A route's address with this in the place of each parameter, escaped."""
    return "/".join(
        quote(value, safe="") if part.startswith("{") else part for part in path.split("/")
    )


# -- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS_OUT, *UNANSWERABLE], ids=lambda way: repr(way[:20]))
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_parameter_leads_out_of_the_workspace(
    box: SandboxProcess, session: Session, method: str, path: str, way: str
) -> None:
    if path.endswith("shutdown"):
        assert "{" not in path
        return
    query = urlencode({"path": way, "boot": session.boot, "operation": "x", "recursive": 1})
    for target in {filled(path, way), path.replace("{path}", way.replace("\0", "%00"))}:
        status, said = ask(box, method, f"{target}?{query}", b"{}", token=box.token)
        assert status < 500, said
        assert OUTSIDE not in said
    assert session.info()["boot"] == session.boot


# -- anything at all ---------------------------------------------------------------------------


def request_of(case: schemathesis.Case, session: Session) -> schemathesis.Case:
    """What schemathesis thought of, so that it comes through to where it may do harm."""
    if isinstance(case.query, dict):
        case.query |= {name: value for name, value in INNER.items() if name in case.query}
        case.query |= {"boot": session.boot} if "boot" in case.query else {}
    if isinstance(case.body, dict) and case.body.get("kind") == "shell":
        case.body["command"] = "true"
    return case


@REQUESTS.parametrize()
@settings(max_examples=15)
def test_no_request_breaks_the_server(
    case: schemathesis.Case, box: SandboxProcess, session: Session
) -> None:
    answer = request_of(case, session).call(
        base_url=box.url, headers={"Authorization": f"token {box.token}"}, allow_redirects=False
    )
    case.validate_response(answer, checks=CHECKS)


@REQUESTS.parametrize()
@settings(max_examples=3)
def test_no_request_has_an_effect_without_the_token(
    case: schemathesis.Case, box: SandboxProcess, session: Session
) -> None:
    before = session.info()["journal"]["lines"], session.tree(recursive=True)
    for token in (None, "", "wrong", "None"):
        headers = {} if token is None else {"Authorization": f"token {token}"}
        answer = request_of(case, session).call(
            base_url=box.url, headers=headers, allow_redirects=False
        )
        assert 300 <= answer.status_code < 500  # an address that ends in a slash is sent on
    assert (session.info()["journal"]["lines"], session.tree(recursive=True)) == before


# -- clients that take their time, or too much -------------------------------------------------


def test_a_body_too_large_is_refused_before_it_comes(box: SandboxProcess, session: Session) -> None:
    for token in ("wrong", box.token):
        head = (
            f"PUT /runner/v1/operations/large?boot={session.boot} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: token {token}\r\nContent-Length: {LARGEST_BODY + 1}\r\n\r\n"
        )
        with connected(box, head.encode()) as connection:
            assert closed(connection).startswith(b"HTTP/1.1 400")


def test_slow_clients_are_cut_off_and_keep_nobody_waiting(
    box: SandboxProcess, session: Session
) -> None:
    put = f"PUT /runner/v1/operations/slow?boot={session.boot} HTTP/1.1\r\nHost: x\r\n"
    begun = {
        "nothing": b"",
        "half a line": b"GET /runner/v1/in",
        "half a head": b"GET /runner/v1/info HTTP/1.1\r\nHost: x\r\n",
        "half a body": f"{put}Content-Length: 9\r\n\r\n{{".encode(),
        "half a chunk": f"{put}Transfer-Encoding: chunked\r\n\r\n9\r\n{{".encode(),
    }
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(connected(box, sent)) for sent in begun.values() for _ in "12345678"
        ]
        assert session.run("1 + 1").text == "2"
        for connection in slow:
            assert b" 200 " not in closed(connection)


def test_a_byte_at_a_time_does_not_put_the_deadline_off(box: SandboxProcess) -> None:
    with connected(box, b"GET /runner/v1/info HTTP/1.1\r\nX-Slow: ") as connection:
        connection.settimeout(0.1)
        ended = False
        for _ in range(int(CUT_S / 0.1)):
            try:
                connection.sendall(b"x")
                ended = connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
            if ended:
                break
        assert ended
