"""Nobody gets anything from a sandbox server without its token."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from sandbox_process import SandboxProcess, sandbox

from runner.errors import OperationError, SandboxUnreachable
from runner.sandbox import file_handlers, handlers, page
from runner.session import Endpoint, Session

ROUTES = [
    "info",
    "operations/an-op",
    "operations/an-op/interrupt",
    "journal",
    "notebook",
    "mask",
    "shutdown",
    "openapi.json",
    "tree",
    "files/notebook.ipynb",
    "tar",
    "ticket",
    "cells",
    "cells/a",
    "cells/a/outputs/0",
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("access")) as made:
        made.session().close()
        yield made


def test_the_list_of_routes_is_whole() -> None:
    made = [*handlers.handlers("/"), *file_handlers.handlers("/"), *page.handlers("/")]
    assert len(ROUTES) == len([route for route in made if "/v1/" in route[0]])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "token wrong"},
        {"Authorization": "token"},
        {"Authorization": "Bearer"},
        {"Cookie": "runner-test-1=wrong; username-localhost=x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_token_no_answer(
    box: SandboxProcess, route: str, method: str, headers: dict[str, str]
) -> None:
    url, params = f"{box.url}/runner/v1/{route}", {"boot": "b", "operation": "o", "token": "wrong"}
    answer = httpx.request(method, url, headers=headers, params=params, content=b"x")
    assert answer.status_code == 403
    assert box.token not in answer.text


def test_the_token_in_an_address_is_no_token(box: SandboxProcess) -> None:
    answer = httpx.get(f"{box.url}/runner/v1/info", params={"token": box.token})
    assert answer.status_code == 403


def test_the_token_is_in_no_log(box: SandboxProcess) -> None:
    headers = {"Authorization": f"token {box.token}"}
    httpx.get(f"{box.url}/runner/v1/nowhere", headers=headers)
    httpx.get(f"{box.url}/runner/v1/info", params={"token": box.token})
    assert box.token not in box.log.read_text()


def test_a_session_with_a_wrong_token_is_told_at_once(box: SandboxProcess) -> None:
    with (
        Session(Endpoint(box.url, "wrong")) as session,
        pytest.raises(OperationError, match="token"),
    ):
        session.connect(30)


def test_a_session_without_a_server_has_a_deadline() -> None:
    session = Session(Endpoint("http://127.0.0.1:9", "t"), reconnect_s=0.2)
    with pytest.raises(SandboxUnreachable, match=r"was not ready after 0\.2 s"):
        session.connect(0.2)
    with pytest.raises(SandboxUnreachable, match=r"has not answered for 0\.2 s"):
        session.info()
    session.close()
    assert "'t'" not in repr(session.endpoint)


def test_the_runs_notebook_is_read_only_for_jupyter(box: SandboxProcess) -> None:
    headers = {"Authorization": f"token {box.token}"}
    url = f"{box.url}/api/contents/notebook.ipynb"
    with box.session() as session:
        session.run("1")
        model = {"type": "file", "format": "text", "content": "x"}
        saved = httpx.put(url, headers=headers, content=json.dumps(model))
        assert saved.status_code == 403
        assert "written by the run" in saved.text
        assert httpx.delete(url, headers=headers).status_code == 403
        moved = httpx.patch(url, headers=headers, content=json.dumps({"path": "other.ipynb"}))
        assert moved.status_code == 403
