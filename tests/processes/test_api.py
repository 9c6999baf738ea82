"""Sandboxes that a script drives: docs/seer.md, on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import HEEDS, CommandLine
from git_server import git_server
from gpu_stand_in import Smi
from messages_api import messages_api
from tiny_runs import processes_of, until

import runner
from runner import (
    ExecutionMode,
    Failed,
    Library,
    Message,
    Sandbox,
    SandboxConfig,
    Skill,
    Workspace,
    create_cli_session,
    create_local_notebook_session,
    create_local_session,
    create_notebook_session,
    run_agent,
)
from runner.errors import InfrastructureError, UsageError
from runner.record import Record, read_lines
from runner.record.verify import verify
from runner.session import LostOperation

HELPER = '"""Counts."""\n\ndef twice(n: int, *, by: int = 2) -> int:\n    """Twice as much."""\n    return by * n\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of this file go."""
    top = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_RUNS", str(top / "runs"))
        patch.setenv("RUNNER_STATE_DIR", str(top / "state"))
        yield top
    assert not list((top / "state").glob("*")), "a sandbox was left behind"
    assert not list(processes_of(top)), "a process was left behind"


@pytest.fixture(scope="module")
def sandbox(place: Path) -> Iterator[Sandbox]:
    """One that most tests share."""
    with Sandbox(SandboxConfig(env={"COLOUR": "blue"}), name="shared") as started:
        yield started
    assert verify(started.record, None).ok
    assert Record.open(started.record).state().state == "done"


def steps(top: Path, *turns: dict[str, Any]) -> Path:
    file = top / "steps.json"
    file.write_text(json.dumps({"steps": [*turns, {"text": "That is all."}]}))
    return file


def call(tool: str, **given: Any) -> dict[str, Any]:
    return {"tools": [{"name": tool, "input": given}]}


def heard(prompt: str, config: Any, **given: Any) -> list[Message]:
    """All that is said, to the end."""

    async def listen() -> list[Message]:
        return [message async for message in run_agent(prompt, config, **given)]

    return asyncio.run(listen())


def kinds(record: Path) -> list[str]:
    return [line["type"] for line, _ in read_lines(record / "transcript.jsonl")]


def test_names_are_loaded_when_they_are_used() -> None:
    for name in runner.__all__:
        assert getattr(runner, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'sandboxes'"):
        runner.sandboxes  # noqa: B018
    loaded = "import runner, sys; print('pydantic' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def test_commands_and_files(sandbox: Sandbox) -> None:
    assert str(sandbox.exec("echo $COLOUR")) == "blue\n"
    assert sandbox.exec_python("print(6 * 7)").text == "42\n"
    sandbox.write_file("/workspace/data/a.txt", "ä")
    sandbox.write_file("data/b.bin", b"\0\1")
    sandbox.ensure_dir("/workspace/data/empty")
    assert sandbox.exec("ls data").text.split() == ["a.txt", "b.bin", "empty"]
    assert sandbox.read_file("data/a.txt") == "ä".encode()
    here = Path(__file__)
    sandbox.upload(here)
    sandbox.upload(here, "data/")
    assert sandbox.read_file(f"data/{here.name}") == sandbox.read_file(here.name)
    assert sandbox.exec("exit 3", check=False).exit == 3
    assert sandbox.exec("").text == ""
    with pytest.raises(Failed, match=r"`cat nothing`: exit status 1") as caught:
        sandbox.exec("cat nothing")
    assert "nothing" in caught.value.result.text
    with pytest.raises(Failed, match="still running"):
        sandbox.exec("sleep 3", timeout=0.2)
    with pytest.raises(UsageError, match="is not in the workspace"):
        sandbox.write_file("/etc/passwd", "")
    with pytest.raises(UsageError, match="was started already"):
        sandbox.start()


def test_a_workspace_is_put_in_place(sandbox: Sandbox, tmp_path: Path) -> None:
    package = tmp_path / "tools"
    package.mkdir()
    (package / "__init__.py").write_text("from tools.inner import here\n")
    (package / "inner.py").write_text(
        "import pathlib\nhere = (pathlib.Path(__file__).parent / 'd.txt').read_text()\n"
    )
    (package / "d.txt").write_text("data")
    (tmp_path / "one.csv").write_text("1")
    session = create_notebook_session(
        sandbox,
        Workspace(
            local_dirs=[(package, "/workspace/copied")],
            local_files=[(tmp_path / "one.csv", "in/one.csv")],
            libraries=[Library.from_code("counts", HELPER), Library.from_directory(package)],
            custom_init_code="READY = 1",
        ),
    )
    said = session.exec("import counts, tools\nprint(counts.twice(21), tools.here, READY)")
    assert said.text == "42 data 1\n"
    assert (
        session.exec("print(open('in/one.csv').read(), open('copied/d.txt').read())").text
        == "1 data\n"
    )
    assert session.exec("X = 1", hidden=True).cell is None
    with pytest.raises(Failed, match="ZeroDivisionError"):
        session.exec("1 / 0")
    cells = json.loads(sandbox.session.notebook())["cells"]
    assert not any("READY = 1" in "".join(cell["source"]) for cell in cells)
    assert session.jupyter_url.startswith("http://127.0.0.1:")
    assert session.model_info_text == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda top: Library.from_code("no-name", ""), "no name that Python can import"),
        (lambda top: Library.from_code("bad", "x =\n1 +"), "library bad, line 1: invalid syntax"),
        (lambda top: Library.from_file(top), "expected a .py file"),
        (lambda top: Library.from_directory(top), "a directory with an __init__.py"),
    ],
)
def test_what_is_no_library_is_refused(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path)


def test_a_library_that_cannot_be_imported_is_told_of_at_once(sandbox: Sandbox) -> None:
    workspace = Workspace(libraries=[Library.from_code("broken", "import nowhere_to_be_found")])
    with pytest.raises(Failed, match="No module named 'nowhere_to_be_found'"):
        create_notebook_session(sandbox, workspace)
    with pytest.raises(UsageError, match="no file or directory"):
        create_notebook_session(sandbox, Workspace(local_files=[("/nowhere/a", "a")]))


SKILL = "---\nname: find-features\ndescription: >\n  Finds features\n  that differ.\n---\n\nRun look.sh.\n"


def skill(top: Path, text: str = SKILL) -> Path:
    """The directory of a skill."""
    top.mkdir(exist_ok=True)
    (top / "SKILL.md").write_text(text)
    (top / "look.sh").write_text("#!/bin/sh\necho looked\n")
    (top / "look.sh").chmod(0o755)
    return top


def test_skills_are_copied_and_announced(sandbox: Sandbox, tmp_path: Path) -> None:
    other = skill(tmp_path / "other", SKILL.replace("find-features", "other"))
    (tmp_path / "linked").symlink_to(skill(tmp_path / "skill", SKILL.replace("\n", "\r\n")))
    made = Skill.from_directory(tmp_path / "linked")
    workspace = Workspace(skills=[made], skill_dirs=[other])
    create_cli_session(sandbox, workspace)
    assert sandbox.exec(".claude/skills/find-features/look.sh").text == "looked\n"
    assert sandbox.read_file(".claude/skills/other/SKILL.md") == (other / "SKILL.md").read_bytes()
    assert workspace.facts()[0] == (
        "skill find-features: Finds features that differ. To use it, read "
        ".claude/skills/find-features/SKILL.md first."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "a directory with a SKILL.md"),
        ("Just do it.", "expected front matter with name and description"),
        ("---\nname: [\n---\n", "its front matter is no YAML"),
        ("---\ndescription: It does.\n---\n", "name: expected words such as"),
        ("---\nname: No Name\ndescription: It does.\n---\n", "found 'No Name'"),
        ("---\nname: it\n---\n", "description: expected what it does"),
    ],
)
def test_what_is_no_skill_is_refused(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        skill(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(words)):
        Skill.from_directory(tmp_path)


def test_a_session_of_its_own_on_this_machine(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "first.py"
    file.write_text("print(6 * 7)\nwritten = open('outputs/made.txt', 'w').write('made')")
    session = create_local_notebook_session(Workspace(custom_init_code="READY = 1"), "own")
    try:
        assert session.exec_file(file).text == "42\n"
        assert session.exec("print(READY)").text == "1\n"
    finally:
        session.terminate()
    state = Record.open(session.sandbox.record).state()
    assert (state.state, state.backend, state.name) == ("done", "local", "own")
    assert [output["path"] for output in state.outputs] == ["made.txt"]


def test_a_session_of_its_own_that_cannot_be_made_leaves_no_sandbox(place: Path) -> None:
    with pytest.raises(UsageError, match="notebook_dir: notebook and files of a session are in"):
        create_local_notebook_session(notebook_dir="./outputs")
    with pytest.raises(Failed, match="ZeroDivisionError"):
        create_local_session(Workspace(custom_init_code="1 / 0"), "fails")
    (record,) = (place / "runs").glob("fails-*")
    assert Record.open(record).state().state == "failed"
    assert not list((place / "state").glob("fails-*"))


def test_an_agent_works_and_is_heard(sandbox: Sandbox, tmp_path: Path) -> None:
    session = create_notebook_session(
        sandbox, Workspace(libraries=[Library.from_code("counts", HELPER)])
    )
    script = steps(tmp_path, call("run_cell", source="import counts\nprint(counts.twice(4))"))
    before = kinds(sandbox.record).count("conversation")
    for _ in range(2):  # each conversation has operations of its own
        said = heard("Count.", session.mcp_config, provider="scripted", script=script)
        assert [message.role for message in said] == ["user", "assistant", "tool", "assistant"]
        assert said[0].text == "Count."
        assert said[2].text.startswith("8\n")
        assert (said[2].tool, said[2].is_error) == ("run_cell", False)
    assert kinds(sandbox.record).count("conversation") == before + 2
    counted = [
        cell
        for cell in json.loads(sandbox.session.notebook())["cells"]
        if "twice(4)" in "".join(cell["source"])
    ]
    assert len(counted) == 2


def test_an_agent_of_a_cli_session_has_no_cells(sandbox: Sandbox, tmp_path: Path) -> None:
    session = create_cli_session(sandbox)
    create_notebook_session(sandbox)  # another one, with tools of its own
    assert session.mode is ExecutionMode.CLI
    script = steps(
        tmp_path, call("run_cell", source="1"), call("run_shell", command="echo $COLOUR")
    )
    said = heard("Look.", session.mcp_config, provider="scripted", script=script)
    tools = [message for message in said if message.role == "tool"]
    assert "there is no tool run_cell" in tools[0].text
    assert tools[1].text.startswith("blue")


def test_a_sandbox_that_is_ended_stops_its_agent(place: Path, tmp_path: Path) -> None:
    script = steps(
        tmp_path,
        call("run_cell", source="import time\ntime.sleep(600)"),
        call("run_shell", command="echo again"),
    )

    async def leave(started: Sandbox) -> None:
        session = create_notebook_session(started)
        with started:
            listening = run_agent("Wait.", session.mcp_config, provider="scripted", script=script)
            async for message in listening:
                if message.role == "assistant":
                    break

    started = Sandbox(name="left").start()
    asyncio.run(leave(started))
    state = Record.open(started.record).state()
    assert (state.state, state.turns) == ("cancelled", 1)
    assert kinds(started.record)[-1] == "end"
    assert verify(started.record, None).ok


def test_a_server_that_crashed_is_told_of_once(place: Path) -> None:
    with Sandbox(name="crashed") as sandbox:
        for process in processes_of(place):
            if "runner.sandbox" in process.cmdline() and sandbox.run_id in str(process.cmdline()):
                process.kill()
        with pytest.raises(LostOperation):
            sandbox.exec("echo one")
        sandbox.exec("echo two > outputs/two.txt")
    state = Record.open(sandbox.record).state()
    assert (state.state, [output["path"] for output in state.outputs]) == ("done", ["two.txt"])


def test_who_stops_listening_stops_the_cell(sandbox: Sandbox, tmp_path: Path) -> None:
    session = create_notebook_session(sandbox)
    script = steps(tmp_path, call("run_cell", source="import time\ntime.sleep(600)"))

    async def listen() -> None:
        listening = run_agent("Wait.", session.mcp_config, provider="scripted", script=script)
        async for message in listening:
            if message.role == "assistant":
                break
        await listening.aclose()

    asyncio.run(listen())
    until(lambda: not sandbox.session.info()["running"], "the cell is interrupted")
    assert sandbox.driven.outcome.state == "cancelled"
    heard("Again.", session.mcp_config, provider="scripted", script=steps(tmp_path))
    assert sandbox.driven.outcome.state == "done"


def test_two_agents_at_once_in_one_sandbox_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    session = create_notebook_session(sandbox)
    source = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    script = steps(tmp_path, call("run_cell", source=source))

    async def both() -> list[Message]:
        first = run_agent("One.", session.mcp_config, provider="scripted", script=script)
        await anext(first)
        with pytest.raises(UsageError, match="an agent works in this sandbox"):
            await anext(run_agent("Two.", session.mcp_config, provider="scripted", script=script))
        sandbox.write_file("go", "")
        return [message async for message in first]

    assert asyncio.run(both())[-1].text == "That is all."


@pytest.mark.parametrize(
    ("config", "given", "words"),
    [
        ({"foreign": {}}, {}, "no session of this process made it"),
        ({}, {}, "no session of this process made it"),
        (None, {"provider": "gpt"}, 'provider: expected "anthropic" or "scripted"'),
        (None, {"max_turns": 0}, "max_turns: expected a number of 1 or more"),
        (None, {"llm_secret": "NOT_THERE"}, "missing secrets: NOT_THERE"),
        (
            None,
            {"model": "nobodys", "max_cost_usd": 1.0},
            "max_cost_usd: expected a model whose price is known, or the price of nobodys",
        ),
    ],
)
def test_a_wrong_call_of_an_agent_is_refused(
    config: Any, given: dict[str, Any], words: str, sandbox: Sandbox
) -> None:
    session = create_notebook_session(sandbox)
    with pytest.raises(UsageError, match=words):
        heard("Go.", session.mcp_config if config is None else config, **given)


def test_a_sandbox_that_does_not_start_leaves_its_record_alone(place: Path) -> None:
    config = SandboxConfig(python_packages=["this-package-is-nowhere-at-all"])
    with pytest.raises(UsageError):
        Sandbox(config).start()
    with git_server(place / "git") as server:
        commit = server.add_repo("r", {"pyproject.toml": "this is no project"})
        assert commit
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.env.items():
                patch.setenv(name, value)
            config = SandboxConfig(repos=[{"url": server.url("r"), "install": True}])
            with pytest.raises(InfrastructureError, match="installing failed"):
                Sandbox(config, name="broken").start()
    (record,) = (place / "runs").glob("broken-*")
    state = Record.open(record).state()
    assert (state.state, state.exit_status) == ("failed", 3)
    assert "the sandbox was not ready: installing failed" in state.reason
    assert not list((place / "state").glob("broken-*"))


BARE = """\
from runner import Sandbox

sandbox = Sandbox(name="bare").start()
sandbox.exec("echo made > outputs/made.txt")
MORE
"""


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [("pass", "done", "ended the sandbox"), ("1 / 0", "failed", "ZeroDivisionError")],
)
def test_a_script_that_ends_nothing_leaves_nothing(
    more: str, state: str, words: str, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "bare.py"
    file.write_text(BARE)
    with started(file, more) as process:
        process.communicate(timeout=90)
    assert process.returncode == (state == "failed")
    record = max((place / "runs").glob("bare-*"), key=lambda path: path.stat().st_ctime)
    found = Record.open(record).state()
    assert (found.state, [output["path"] for output in found.outputs]) == (state, ["made.txt"])
    assert words in found.reason


def test_a_sandbox_that_has_ended_is_told_of_in_words(place: Path, tmp_path: Path) -> None:
    with Sandbox(name="over") as ended:
        session = create_notebook_session(ended)
    for use in (lambda: ended.exec("ls"), lambda: session.exec("1")):
        with pytest.raises(UsageError, match="has ended"):
            use()
    with pytest.raises(UsageError, match="has ended"):
        heard("Go.", session.mcp_config, provider="scripted", script=steps(tmp_path))


def test_a_name_that_is_none_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="Sandbox: name: expected"):
        Sandbox(name="No Name").start()


def test_two_of_one_name_are_two_runs(place: Path) -> None:
    with Sandbox(name="same") as one, Sandbox(name="same") as other:
        one.write_file("whose", "of one")
        other.write_file("whose", "of the other")
        assert one.exec("cat whose").text == "of one"
        assert other.exec("cat whose").text == "of the other"
    assert one.run_id != other.run_id
    for sandbox in (one, other):
        report = verify(place / "runs" / sandbox.run_id)
        assert report.ok, report.findings


def test_one_that_was_not_started_has_no_run(place: Path) -> None:
    with pytest.raises(UsageError, match="was not started"):
        _ = Sandbox().run_id


SCRIPT = """\
import asyncio
from pathlib import Path

from runner import ExecutionMode, Library, RepoConfig, Sandbox, SandboxConfig, Workspace
from runner import create_notebook_session, run_agent


async def main():
    here = Path(__file__).parent
    config = SandboxConfig(
        gpu="A100",
        execution_mode=ExecutionMode.NOTEBOOK,
        repos=[RepoConfig(url="REPO")],
        python_packages=["python-dotenv"],
        secrets=["OPENROUTER_API_KEY"],
        timeout=7200,
    )
    sandbox = Sandbox(config).start()
    workspace = Workspace(libraries=[Library.from_file(here / "client.py")])
    session = create_notebook_session(sandbox, workspace)
    prompt = f"{session.model_info_text}\\n\\nDiff them."
    try:
        async for message in run_agent(prompt, mcp_config=session.mcp_config):
            print(message.role, message.text, flush=True)
        print(f"Notebook: {session.jupyter_url}")
        MORE
    finally:
        sandbox.terminate()


if __name__ == "__main__":
    asyncio.run(main())
"""
KEY = "sk-ant-canary-0123456789"


@pytest.fixture
def script(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A script as Seer's users write them, with a stand-in for each thing that it asks for."""
    Smi(tmp_path, monkeypatch)
    (tmp_path / "client.py").write_text('"""Asks."""\n\ndef ask() -> str:\n    return "asked"\n')
    with git_server(tmp_path / "git") as server:
        server.add_repo("interp", {"interp/__init__.py": "answer = 42\n"})
        monkeypatch.setenv("OPENROUTER_API_KEY", "router-canary-98765")
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "main.py"
        file.write_text(SCRIPT.replace("REPO", server.url("interp")))
        yield file


def started(file: Path, more: str = "pass", **env: str) -> subprocess.Popen[str]:
    file.write_text(file.read_text().replace("MORE", more))
    return subprocess.Popen(
        [sys.executable, str(file)],
        env=os.environ | env,
        cwd=file.parent,
        preexec_fn=HEEDS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(place: Path) -> Record:
    return Record.open(max((place / "runs").glob("main-*"), key=lambda path: path.stat().st_ctime))


CELL = "import client, interp, os\nprint(client.ask(), interp.answer, os.environ['OPENROUTER_API_KEY'])\nopen('outputs/made.txt', 'w').write('made')"


def test_a_seer_script_is_a_run(place: Path, script: Path) -> None:
    replies = [call("run_cell", source=CELL) | {"text": "I look."}, {"text": f"Done with {KEY}."}]
    with (
        messages_api(replies) as server,
        started(script, ANTHROPIC_BASE_URL=server.url) as process,
    ):
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert "asked 42 ***" in out
    assert "Notebook: http://127.0.0.1:" in out
    assert "library to import: client: Asks.\n  - ask() -> str" in json.dumps(
        server.requests[0].body["system"]
    ).replace("\\n", "\n")
    record = newest(place)
    state = record.state()
    assert (state.state, state.exit_status, state.turns) == ("done", 0, 2)
    assert state.model == "claude-sonnet-5-5"
    assert state.cost_usd
    assert [output["path"] for output in state.outputs] == ["made.txt"]
    assert verify(record.path, None).ok
    for file in record.path.rglob("*"):
        text = file.read_bytes() if file.is_file() else b""
        assert KEY.encode() not in text, file
        assert b"router-canary" not in text, file
    assert not list((place / "state").glob("main-*"))


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [
        ("raise ValueError('on purpose')", "failed", "the script raised: ValueError: on purpose"),
        ("import sys; sys.exit(5)", "failed", "the script raised: SystemExit: 5"),
        ("sandbox.exec('no-such-command router-canary-98765')", "failed", "`no-such-command ***`"),
        ("import os; os.kill(os.getpid(), 2); await asyncio.sleep(60)", "cancelled", "Ctrl-C"),
    ],
)
def test_a_script_that_raises_says_so_in_the_record(
    more: str, state: str, words: str, place: Path, script: Path
) -> None:
    with (
        messages_api([{"text": "Nothing to do."}]) as server,
        started(script, more, ANTHROPIC_BASE_URL=server.url) as process,
    ):
        _, err = process.communicate(timeout=90)
    assert process.returncode != 0
    found = newest(place).state()
    assert found.state == state, err
    assert words in found.reason
    assert "router-canary" not in (newest(place).path / "transcript.jsonl").read_text()
    assert not list((place / "state").glob("main-*"))


def test_a_script_whose_run_is_cancelled_keeps_what_was_made(place: Path, script: Path) -> None:
    line = CommandLine(place, RUNNER_STATE_DIR=str(place / "state"))
    more = "sandbox.exec('echo late > outputs/late.txt; echo there > there; sleep 600', 700)"
    with (
        messages_api([{"text": "Done."}]) as server,
        started(script, more, ANTHROPIC_BASE_URL=server.url) as process,
    ):
        assert process.stdout is not None
        assert any(said.startswith("Notebook") for said in process.stdout)
        run = newest(place)
        there = place / "state" / run.path.name / "workspace" / "there"
        until(there.exists, "the command runs")
        told = line("cancel", run.path.name)
        assert told.status == 0, told
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0, err
    state = run.state()
    assert (state.state, state.exit_status) == ("cancelled", 130)
    assert "late.txt" in [output["path"] for output in state.outputs]
    assert verify(run.path, None).ok


def test_a_script_that_is_killed_leaves_a_run_that_can_be_cancelled(
    place: Path, script: Path
) -> None:
    line = CommandLine(place, RUNNER_STATE_DIR=str(place / "state"))
    with (
        messages_api([call("run_cell", source=CELL), {"text": "Done."}]) as server,
        started(script, "await asyncio.sleep(600)", ANTHROPIC_BASE_URL=server.url) as process,
    ):
        assert process.stdout is not None
        assert any(said.startswith("Notebook") for said in process.stdout)
        run = newest(place)
        assert json.loads(line("list", "--json").out.splitlines()[0])["state"] == "running"
        until(lambda: run.state().outputs, "the output is pulled")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    told = line("status", run.path.name)
    assert "interrupted: its script is gone (its sandbox still runs)" in " ".join(told.out.split())
    told = line("resume", run.path.name)
    assert (told.status, "was driven by a script" in told.err) == (2, True)
    told = line("submit", str(run.path))
    assert (told.status, "was driven by a script" in told.err) == (2, True)
    assert line("cancel", run.path.name).status == 0
    assert run.state().state == "cancelled"
    assert verify(run.path, None).ok
    assert line("delete", run.path.name, "--yes").status == 0
