"""Servers of MCP that are others', beside a session's own tools: docs/seer.md."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mcp_server
import psutil
import pytest
from tiny_runs import processes_of, until

from runner import Message, NotebookSession, Sandbox, create_notebook_session, run_agent
from runner.api import foreign
from runner.errors import InfrastructureError, UsageError
from runner.record import read_lines


class Other:
    """The server of others, which can be started again at its address."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, mcp_server.__file__, str(self.port)])
        until(self._answers, "the server listens")

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "type": "http",
            "url": f"http://127.0.0.1:{self.port}/mcp",
            "headers": {"Authorization": f"Bearer {mcp_server.TOKEN}"},
        }


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.close()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookSession]:
    top = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_RUNS", str(top / "runs"))
        patch.setenv("RUNNER_STATE_DIR", str(top / "state"))
        with Sandbox(name="foreign") as sandbox:
            yield create_notebook_session(sandbox)
        assert not list(processes_of(top)), "a process was left behind"


def call(name: str, **given: Any) -> dict[str, Any]:
    return {"name": f"mcp__other__{name}", "input": given}


def heard(
    session: NotebookSession,
    entry: Any,
    tmp_path: Path,
    *calls: Any,
    on: Callable[[int], Any] = lambda _: None,
) -> list[Message]:
    """The tools' answers to these calls, one turn each; `on` is told how many there are."""
    steps = tmp_path / "steps.json"
    turns = [*({"tools": [one]} for one in calls), {"text": "That is all."}]
    steps.write_text(json.dumps({"steps": turns}))

    async def listen() -> list[Message]:
        config = {**session.mcp_config, "other": entry}
        talk = run_agent("Do it.", config, provider="scripted", script=steps)
        told = []
        async for message in talk:
            if message.role == "tool":
                told.append(message)
                on(len(told))
        return told

    return asyncio.run(listen())


def test_its_tools_are_beside_the_notebook(
    session: NotebookSession, other: Other, tmp_path: Path
) -> None:
    told = heard(
        session,
        other.entry,
        tmp_path,
        call("add", a=41),
        call("fail"),
        call("long"),
        call("picture"),
        call("add"),
        {"name": "run_cell", "input": {"source": "print(6 * 7)"}},
    )
    assert (told[0].text, told[0].is_error) == ("42", False)
    assert told[1].is_error
    assert "it does not work" in told[1].text
    assert "88,000 characters left out" in told[2].text
    assert [block["type"] for block in told[3].content] == ["image"]
    assert told[4].is_error
    assert "a" in told[4].text
    assert told[5].text.startswith("42\n")
    for file in (session.sandbox.record / "transcript.jsonl", session.sandbox.record / "run.json"):
        assert not file.exists() or mcp_server.TOKEN not in file.read_text()


def test_one_that_dies_is_told_of_and_may_come_back(
    session: NotebookSession, other: Other, tmp_path: Path
) -> None:
    listens = f"""\
import socket, time
while socket.socket().connect_ex(("127.0.0.1", {other.port})):
    time.sleep(0.05)"""
    calls = [
        call("die"),
        call("add", a=1),
        {"name": "run_cell", "input": {"source": listens}},
        call("add", a=1),
    ]

    def again() -> None:
        assert other.process is not None
        other.process.wait()
        until((tmp_path / "go").exists, "it was called while it was away")
        other.start()

    starting = threading.Thread(target=again)
    starting.start()
    told = heard(
        session, other.entry, tmp_path, *calls, on=lambda n: n == 2 and (tmp_path / "go").touch()
    )
    starting.join()
    for message in told[:2]:
        assert message.is_error
        assert message.text.startswith("the MCP server other did not answer: ")
        assert "Whether it did what was asked is not known" in message.text
    assert told[3].text == "2"


def test_one_that_hangs_is_given_up(
    session: NotebookSession, other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "CALL_S", 1.0)
    told = heard(session, other.entry, tmp_path, call("hang"), call("add", a=1))
    assert told[0].is_error
    assert told[0].text.startswith("the MCP server other did not answer: ")


def test_who_stops_listening_does_not_wait_for_it(
    session: NotebookSession, other: Other, tmp_path: Path
) -> None:
    file = tmp_path / "steps.json"
    file.write_text(json.dumps({"steps": [{"tools": [call("hang")]}, {"text": "That is all."}]}))

    async def listen() -> None:
        config = {**session.mcp_config, "other": other.entry}
        talk = run_agent("Do it.", config, provider="scripted", script=file)
        async for message in talk:
            if message.role == "assistant":
                break
        await talk.aclose()

    began = time.monotonic()
    asyncio.run(listen())
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        ({"command": "no-such-thing"}, InfrastructureError, "status 127: no-such-thing: No such"),
        ({"command": "x", "cwd": "/"}, UsageError, "no such key: cwd"),
        ({"command": "x", "args": [1]}, UsageError, "expected texts"),
        ({"command": "x", "env": ["A"]}, UsageError, "env: expected names and values"),
        ({"type": "http", "url": "ftp://x"}, UsageError, "expected http:// or https://"),
        ({"type": "http", "url": "http://x", "auth": 1}, UsageError, "no such key: auth"),
        ({"type": "http", "url": "http://127.0.0.1:9/mcp"}, InfrastructureError, "other does not"),
    ],
)
def test_one_that_cannot_be_had(
    session: NotebookSession, tmp_path: Path, entry: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        heard(session, entry, tmp_path)


def test_a_wrong_token_is_told_of(session: NotebookSession, other: Other, tmp_path: Path) -> None:
    wrong = other.entry | {"headers": {"Authorization": "Bearer wrong-token-1234"}}
    with pytest.raises(InfrastructureError, match="does not tell of its tools") as caught:
        heard(session, wrong, tmp_path)
    assert "wrong-token" not in str(caught.value)


# -- started as commands -----------------------------------------------------------------------


def started(**env: str) -> dict[str, Any]:
    """The same server on stdin and stdout."""
    code = "import mcp_server; mcp_server.server.run()"
    path = {"PYTHONPATH": str(Path(mcp_server.__file__).parent)}
    return {"command": sys.executable, "args": ["-c", code], "env": path | env}


def commands(session: NotebookSession) -> list[str]:
    """Those that started such a server, in the record of the sandbox."""
    return [
        line["command"]
        for line, _ in read_lines(session.sandbox.record / "journal.jsonl")
        if line["type"] == "shell" and "stdio.py" in line["command"]
    ]


def test_one_that_is_started_runs_in_the_sandbox(session: NotebookSession, tmp_path: Path) -> None:
    before = len(commands(session))
    told = heard(
        session,
        started(),
        tmp_path,
        call("add", a=41),
        call("fail"),
        call("long"),
        call("picture"),
        call("die"),
        call("add", a=1),
    )
    assert (told[0].text, told[0].is_error) == ("42", False)
    assert "it does not work" in told[1].text
    assert "88,000 characters left out" in told[2].text
    assert [block["type"] for block in told[3].content] == ["image"]
    assert told[4].is_error
    assert "Whether it did what was asked is not known" in told[4].text
    assert told[5].text == "2", "it is started again"
    # It ended with its agent.
    assert len(commands(session)) - before == 2
    assert not session.sandbox.session.info()["running"]
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if "mcp_server.server.run()" in " ".join(process.info["cmdline"] or [])
    ]


def test_one_that_does_not_start_is_told_of_in_its_own_words(
    session: NotebookSession, tmp_path: Path
) -> None:
    entry = {"command": sys.executable, "args": ["-c", "raise SystemExit('no key was given')"]}
    with pytest.raises(InfrastructureError, match="status 1: no key was given"):
        heard(session, entry, tmp_path)
    assert not session.sandbox.session.info()["running"]
