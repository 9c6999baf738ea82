"""Functions that one sandbox serves to another, and to models: docs/seer.md."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from messages_api import messages_api
from tiny_runs import processes_of, until

from runner import (
    Failed,
    Library,
    NotebookSession,
    Sandbox,
    SandboxConfig,
    ScopedSandbox,
    Workspace,
    create_notebook_session,
    run_agent,
)
from runner.errors import UsageError
from runner.record import Record, read_lines
from runner.record.verify import verify

INTERFACE = '''
"""Rates texts."""

import os
import threading
import time

HIDDEN = "model-of-the-house"
together = threading.Barrier(8)


class Strange(Exception):
    pass


@expose
def rate(text: str, *, by: int = 2) -> dict:
    """Rate a text by its length."""
    print("rating", text)
    return {"score": by * len(text), "key": os.environ["HOUSE_KEY"]}


@expose
def fail(kind: str):
    raise {"value": ValueError("no such", 3), "own": Strange("mine"), "exit": SystemExit(3)}[kind]


@expose
def together_with_others(n: int) -> int:
    together.wait(30)
    return n


@expose
def count(n: int, after_each: str = ""):
    """Count to n."""
    for i in range(n):
        yield i
        while after_each and not os.path.exists(f"{after_each}{i}"):
            time.sleep(0.01)


@expose
def repeat(text: str, times: int) -> str:
    return text * times


@expose
async def later() -> str:
    return "later"


@expose
def unsendable():
    return [lambda: 1]


@expose
def leave():
    os._exit(7)
'''
KEY = "canary-of-the-house-1234"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("scoped")
    (top / "tools.py").write_text(INTERFACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_RUNS", str(top / "runs"))
        patch.setenv("RUNNER_STATE_DIR", str(top / "state"))
        patch.setenv("HOUSE_KEY", KEY)
        yield top
    assert not list((top / "state").glob("*")), "a sandbox was left behind"
    assert not list(processes_of(top)), "a process was left behind"


@pytest.fixture(scope="module")
def scoped(place: Path) -> Iterator[ScopedSandbox]:
    with ScopedSandbox(SandboxConfig(secrets=["HOUSE_KEY"]), name="scoped") as started:
        yield started
    assert verify(started.record, None).ok
    assert Record.open(started.record).state().state == "done"


@pytest.fixture(scope="module")
def library(scoped: ScopedSandbox, place: Path) -> Library:
    return scoped.serve(place / "tools.py", expose_as="library")


@pytest.fixture(scope="module")
def session(library: Library) -> Iterator[NotebookSession]:
    with Sandbox(name="user") as sandbox:
        yield create_notebook_session(sandbox, Workspace(libraries=[library]))
    assert verify(sandbox.record, None).ok


def said(session: NotebookSession, code: str) -> str:
    return session.exec(code).text.strip()


def failure(session: NotebookSession, code: str) -> str:
    with pytest.raises(Failed) as caught:
        session.exec(code)
    return str(caught.value.result.outputs[-1]["evalue"])


def test_a_library_that_runs_elsewhere(session: NotebookSession, library: Library) -> None:
    assert "rate(text: str, *, by: int=2) -> dict: Rate a text by its length." in library.docs
    assert said(session, "import tools; tools.rate('abc')['score']") == "6"
    assert said(session, "tools.rate(text='abc', by=5)['score']") == "15"
    assert said(session, "tools.later()") == "'later'"
    assert "Rate a text" in said(session, "help(tools.rate)")
    assert "takes 1 positional argument but 2" in failure(session, "tools.rate('abc', 5)")


def test_exceptions_are_carried_over(session: NotebookSession) -> None:
    code = "try:\n    tools.fail('value')\nexcept ValueError as error:\n    print(error.args)"
    assert said(session, f"import tools\n{code}") == "('no such', 3)"
    assert failure(session, "tools.fail('own')") == "tools.Strange: mine"
    assert failure(session, "tools.fail('exit')") == "builtins.SystemExit: 3"
    assert failure(session, "tools.fail('none')") == "'none'"
    words = failure(session, "tools.unsendable()")
    assert words.startswith("the result of unsendable()[0] is a builtins.function (unsendable.<loc")
    assert "text of rate() is a builtins.builtin" in failure(session, "tools.rate(print)")


def test_calls_run_at_once(session: NotebookSession) -> None:
    code = """\
import tools
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    print(list(pool.map(tools.together_with_others, range(8))))"""
    assert said(session, code) == str(list(range(8)))


def test_what_is_yielded_comes_as_it_is_made(
    session: NotebookSession, scoped: ScopedSandbox
) -> None:
    at = scoped.exec("pwd").text.strip()
    code = f"""\
import pathlib, tools
for i in tools.count(3, after_each="{at}/go-"):
    print(i, flush=True)
    pathlib.Path("{at}", f"go-{{i}}").touch()"""
    assert said(session, code) == "0\n1\n2"
    # Whoever does not want the rest does not have to wait for it.
    assert said(session, f"next(tools.count(3, after_each='{at}/never-'))") == "0"


def test_a_long_result_arrives_whole(session: NotebookSession) -> None:
    code = "import tools; text = tools.repeat('0123456789', 4_000_000); print(len(text), text[-3:])"
    assert said(session, code) == "40000000 789"


def test_the_agent_sees_functions_and_nothing_else(
    session: NotebookSession, scoped: ScopedSandbox
) -> None:
    assert said(session, "!grep -rl model-of-the-house . ; env | grep -c HOUSE_KEY") == "0"
    channel = "channel = __import__('json').load(open('tools/_channel.json'))"
    ask = """\
import urllib.error, urllib.request
def ask(url, method="GET"):
    head = {"Authorization": f"token {channel['token']}"}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=head, method=method)).status
    except urllib.error.HTTPError as error:
        return error.code
server = channel["url"].partition("/runner/")[0]
print(ask(f"{server}/runner/v1/info"), ask(f"{server}/runner/v1/notebook"),
      ask(f"{server}/api/contents"), ask(channel["url"] + "?after=0"),
      ask(f"{server}/runner/v1/channels/tools", "DELETE"))"""
    assert said(session, f"{channel}\n{ask}") == "403 403 403 403 403"


def test_the_record_has_the_calls(session: NotebookSession, scoped: ScopedSandbox) -> None:
    said(session, "import tools; tools.rate('to be recorded')")
    for record in (scoped.record, session.sandbox.record):
        calls = until(
            lambda record=record: [
                line
                for line, _ in read_lines(record / "journal.jsonl")
                if line["type"] == "call" and "recorded" in line.get("text", "")
            ],
            "the call is in the journal",
        )
        assert calls[0]["event"] == "begin"
        assert json.loads(calls[0]["text"])["kwargs"] == {"text": "to be recorded", "by": 2}
    # The one whose secret it is masks it.
    text = (scoped.record / "journal.jsonl").read_text()
    assert KEY not in text
    assert '\\"score\\":28,\\"key\\":\\"***\\"' in text
    printed = [
        line["text"]
        for line, _ in read_lines(scoped.record / "journal.jsonl")
        if line["type"] == "shell_output"
    ]
    assert "rating to be recorded\n" in "".join(printed)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", "broken.py exposes nothing: put @expose before a function"),
        ("def f(:", "SyntaxError"),
        ("expose(lambda: 1)", "<lambda> is no name that can be called"),
        ("get_model_path('org/none')", "no model org/none is here; there are: none"),
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
    ],
)
def test_an_interface_that_does_not_start_is_told_of_at_once(
    scoped: ScopedSandbox, tmp_path: Path, source: str, words: str
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source)
    began = time.monotonic()
    with pytest.raises(Failed) as caught:
        scoped.serve(file, expose_as="mcp")
    assert words in str(caught.value)
    assert 'File ".serving/broken/worker.py"' not in str(caught.value)
    assert time.monotonic() - began < 15


def test_what_can_be_seen_to_be_wrong(
    scoped: ScopedSandbox, library: Library, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "slow.py"
    file.write_text("import time; time.sleep(600)")
    with pytest.raises(UsageError, match="expected library or mcp, found 'http'"):
        scoped.serve(file, expose_as="http")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="expected a .py file"):
        scoped.serve(tmp_path / "none.py")
    with pytest.raises(UsageError, match="serves another interface of that name"):
        scoped.serve(place / "tools.py")
    with pytest.raises(UsageError, match="no name that Python can import"):
        scoped.serve(file, name="a-b")
    with pytest.raises(UsageError, match="was not started"):
        ScopedSandbox().serve(file)


def heard(prompt: str, config: Any, **given: Any) -> list[Any]:
    async def listen() -> list[Any]:
        return [message async for message in run_agent(prompt, config, **given)]

    return asyncio.run(listen())


def test_a_model_calls_them_as_tools(scoped: ScopedSandbox, place: Path, tmp_path: Path) -> None:
    tools = scoped.serve(place / "tools.py", expose_as="mcp", name="judge")
    steps = tmp_path / "steps.json"

    def call(tool: str, **given: Any) -> dict[str, Any]:
        return {"name": f"mcp__judge__{tool}", "input": given}

    calls = [
        call("rate", text="abc", by=3),
        call("fail", kind="own"),
        call("count", n=3),
        call("repeat", text="x", times=100_000),
        call("rate", tex="abc"),
        {"name": "run_shell", "input": {"command": "ls"}},
    ]
    steps.write_text(json.dumps({"steps": [{"tools": calls}, {"text": "Rated."}]}))
    told = heard("Rate it.", tools, provider="scripted", script=steps)
    answers = [(message.is_error, message.text) for message in told if message.role == "tool"]
    assert answers[0] == (False, '{"score": 9, "key": "***"}')
    assert answers[1] == (True, "Strange: mine")
    assert answers[2] == (False, "[0, 1, 2]")
    assert "88,000 characters left out" in answers[3][1]
    assert answers[4][0]
    assert "unexpected keyword argument 'tex'" in answers[4][1]
    assert answers[5][1].startswith("there is no tool run_shell; there are: mcp__judge__rate, ")
    transcript = (scoped.record / "transcript.jsonl").read_text()
    assert "mcp__judge__rate" in transcript
    assert KEY not in transcript


def test_a_model_has_them_beside_a_notebook(
    scoped: ScopedSandbox, session: NotebookSession, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = scoped.serve(place / "tools.py", expose_as="mcp", name="beside")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-none")
    replies = [
        {"tools": [{"name": "mcp__beside__later", "input": {}}]},
        {"tools": [{"name": "run_cell", "input": {"source": "6 * 7"}}]},
        {"text": "Done."},
    ]
    with messages_api(replies) as api:
        told = heard(
            "Do it.",
            {**session.mcp_config, **tools},
            provider="claude",
            model="m",
            base_url=api.url,
        )
        asked = api.requests[0].body
    names = [tool["name"] for tool in asked["tools"]]
    assert {"run_cell", "mcp__beside__later", "mcp__beside__rate"} <= set(names)
    assert len(names) == len(set(names))
    answers = [message.text for message in told if message.role == "tool"]
    assert answers[0] == "later"
    assert answers[1].startswith("[result]\n42") or "42" in answers[1]


def test_another_client_of_mcp_has_them(scoped: ScopedSandbox, place: Path) -> None:
    entry = scoped.serve(place / "tools.py", expose_as="mcp", name="others")["others"]

    async def ask() -> tuple[list[str], str]:
        server = StdioServerParameters(
            command=entry["command"], args=entry["args"], env=entry["env"], cwd="/"
        )
        async with Client(server, read_timeout_seconds=60) as client:
            listed = await client.list_tools()
            answer = await client.call_tool("mcp__others__rate", {"text": "abcd"})
            return [tool.name for tool in listed.tools], answer.content[0].text

    names, answer = asyncio.run(ask())
    assert "mcp__others__count" in names
    assert json.loads(answer) == {"score": 8, "key": "***"}


@pytest.mark.parametrize("how", ["leaves", "killed", "its sandbox ends"])
def test_what_served_it_is_gone(place: Path, how: str) -> None:
    """Who waits for an answer is told at once."""
    config = SandboxConfig(secrets=["HOUSE_KEY"])
    with ScopedSandbox(config, name="going") as going, Sandbox(name="left") as left:
        library = going.serve(place / "tools.py", name="tools")
        session = create_notebook_session(left, Workspace(libraries=[library]))
        if how == "leaves":
            words = failure(session, "import tools; tools.leave()")
            assert "the process that serves tools has ended (status 7)" in words
        elif how == "killed":
            going.exec("pkill -KILL -f '.serving/tools/worker.py'", check=False)
            until(lambda: "has ended" in failure(session, "tools.rate('x')"), "it is told")
        else:
            going.terminate()
            assert "the sandbox that serves tools has ended" in failure(session, "tools.later()")
        assert verify(left.record, None).ok
