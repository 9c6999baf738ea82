"""A script drives a sandbox, as Seer's users have it: what holds on every backend."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from command_line import CommandLine, Started
from invariants import check_let_go
from mcp import Client, StdioServerParameters
from tiny_runs import Lab, Run, cell, end, until

from runner.backends.base import Selector
from runner.record.verify import verify

SCRIPT = """\
import asyncio, json
from pathlib import Path

from runner import Library, Sandbox, SandboxConfig, Workspace, create_notebook_session, run_agent

HERE = Path(__file__).parent


async def main():
    with Sandbox(SandboxConfig(CONFIG), name="driven") as sandbox:
        print("run", sandbox.run_id, flush=True)
        workspace = Workspace(libraries=[Library.from_file(HERE / "helper.py")])
        session = create_notebook_session(sandbox, workspace)
        steps = HERE / "steps.json"
        talk = run_agent("Do it.", session.mcp_config, provider="scripted", script=steps)
        async for message in talk:
            print(message.role, message.text, flush=True)
        print(sandbox.exec("cat outputs/made.txt"), flush=True)
        MORE


asyncio.run(main())
"""
HELPER = 'def twice(n: int) -> int:\n    """Twice as much."""\n    return 2 * n\n'
MADE = "import helper\nprint(helper.twice(21))\nopen('outputs/made.txt', 'w').write('it is made')"
WAITS = "sandbox.exec('echo late > outputs/late.txt; sleep 600', 700)"


@contextmanager
def script(lab: Lab, more: str = "pass", config: str = "") -> Iterator[Started]:
    """A script that drives a sandbox of the lab; it goes on for as long as the context lasts."""
    steps = [cell(MADE), end("42")]
    (lab.top / "steps.json").write_text(json.dumps({"steps": steps}))
    (lab.top / "helper.py").write_text(HELPER)
    file = lab.top / "main.py"
    file.write_text(SCRIPT.replace("MORE", more).replace("CONFIG", config))
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    with line.starting(program=(str(file),)) as started:
        yield started


def run_of(lab: Lab, started: Started) -> Run:
    return lab.adopt(lab.backend.attach(started.said(r"^run (\S+)$")[1]))


def check(run: Run) -> None:
    """Its record is whole, here and wherever the backend keeps records; nothing else is left."""
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))
    check_let_go(run.path)
    here = {name: (run.path / name).read_bytes() for name in ("transcript.jsonl", "journal.jsonl")}
    run.lab.backend.delete(run.handle)
    if run.lab.settings.backend == "local":
        return
    shutil.rmtree(run.path)
    run.handle = run.lab.backend.attach(run.run_id)
    assert run.synced().status.state == run.status.run.state
    assert {name: (run.path / name).read_bytes() for name in here} == here
    assert (run.path / "outputs" / "made.txt").read_text() == "it is made"
    assert verify(run.path).ok


@pytest.mark.timeout(300)
def test_a_script_is_a_run(lab: Lab) -> None:
    with script(lab) as started:
        run = run_of(lab, started)
        started.said("^it is made$")
        told = started.end()
    assert told.status == 0, told
    assert "tool 42" in told.out
    status = run.status
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    assert not (status.agent_alive or status.sandbox_alive)
    assert [output["path"] for output in status.run.outputs] == ["made.txt"]
    assert any(line.text for line in lab.backend.logs(run.handle, follow=False))
    check(run)


@pytest.mark.timeout(300)
def test_a_client_of_mcp_works_in_the_notebook_of_a_script(lab: Lab) -> None:
    more = (
        "print('mcp', json.dumps(dict(session.mcp_config)), flush=True); await asyncio.sleep(600)"
    )
    with script(lab, more) as started:
        run = run_of(lab, started)
        entry = json.loads(started.said("^mcp (.*)$")[1])["runner"]
        answer = asyncio.run(called(entry, "run_cell", source="print(helper.twice(4))"))
        assert answer.startswith("8\n")
        lab.backend.stop(run.handle, 30.0)
        assert run.status.state == "cancelled"
    assert "twice(4)" in (run.path / "notebook.ipynb").read_text()


async def called(entry: dict[str, Any], tool: str, **given: Any) -> str:
    """What a tool answers a client that knows nothing but the entry."""
    server = StdioServerParameters(
        command=entry["command"], args=entry["args"], env=entry["env"], cwd="/"
    )
    async with Client(server, read_timeout_seconds=60) as client:
        answer = await client.call_tool(tool, given)
        return "".join(block.text for block in answer.content if block.type == "text")


SCOPED = """\
from runner import ScopedSandbox, Sandbox, SandboxConfig, Workspace, create_notebook_session

with ScopedSandbox(SandboxConfig(), name="scoped") as scoped:
    print("run", scoped.run_id, flush=True)
    tools = scoped.serve("interface.py")
    with Sandbox(SandboxConfig(), name="driven") as sandbox:
        print("other", sandbox.run_id, flush=True)
        session = create_notebook_session(sandbox, Workspace(libraries=[tools]))
        print(session.exec(CELL), flush=True)
"""
INTERFACE = """\
import os

@expose
def where() -> str:
    return os.getcwd()

@expose
def count(n: int):
    yield from range(n)
"""
CELL = """\
import interface, os
print(interface.where() != os.getcwd() or 'in a container', list(interface.count(3)))
open('outputs/made.txt', 'w').write('it is made')
"""


@pytest.mark.timeout(300)
def test_one_sandbox_calls_functions_of_another(lab: Lab) -> None:
    file = lab.top / "main.py"
    file.write_text(SCOPED.replace("CELL", repr(CELL)))
    (lab.top / "interface.py").write_text(INTERFACE)
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    with line.starting(program=(str(file),)) as started:
        scoped = run_of(lab, started)
        other = lab.adopt(lab.backend.attach(started.said(r"^other (\S+)$")[1]))
        told = started.end()
    assert told.status == 0, told
    assert "[0, 1, 2]" in told.out
    assert (scoped.status.state, other.status.state) == ("done", "done"), scoped.status.reason
    assert "where" in (scoped.path / "journal.jsonl").read_text()
    assert verify(scoped.path).ok
    check(other)


@pytest.mark.timeout(300)
def test_a_script_that_is_cancelled_keeps_what_was_made(lab: Lab) -> None:
    with script(lab, WAITS) as started:
        run = run_of(lab, started)
        started.said("^it is made$")
        run.wait_for_output("late.txt")
        assert run.status.state == "running"
        lab.backend.stop(run.handle, 30.0)
        told = started.end()
    assert told.status != 0, told
    status = run.status
    assert (status.state, status.exit_status) == ("cancelled", 130), status.reason
    assert [item["path"] for item in status.run.outputs] == ["late.txt", "made.txt"]
    check(run)


@pytest.mark.timeout(300)
def test_a_script_that_is_killed_leaves_a_run_that_can_be_cancelled(lab: Lab) -> None:
    with script(lab, WAITS) as started:
        run = run_of(lab, started)
        started.said("^it is made$")
        run.wait_for_output("late.txt")
        started.kill()
        started.end()
    status = run.synced().status
    assert status.state == "interrupted"
    assert "its script is gone (its sandbox still runs)" in status.reason
    (listed,) = lab.backend.list(Selector(name="driven"))
    assert (listed.state, listed.reason) == (status.state, status.reason)
    lab.backend.stop(run.handle, 30.0)
    status = run.status
    assert (status.state, status.exit_status) == ("cancelled", 130), status.reason
    assert [item["path"] for item in status.run.outputs] == ["late.txt", "made.txt"]
    until(lambda: not run.status.sandbox_alive, "its sandbox ends", 30)
    check(run)
