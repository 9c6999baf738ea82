"""An agent that a script has on its own terminal: run_agent_interactive."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from tiny_runs import cell, end, held, until

from runner.record import read_lines
from runner.record.verify import verify

SCRIPT = """
import asyncio
from runner import Sandbox, create_notebook_session, run_agent_interactive

async def main():
    with Sandbox(name="talk") as sandbox:
        print("run", sandbox.run_id, flush=True)
        session = create_notebook_session(sandbox)
        await run_agent_interactive(
            "Do it.", session.mcp_config, user_message="Begin.", provider="scripted",
            script="steps.json",
        )
        print("after it", sandbox.exec("ls outputs"), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    (tmp_path / "talk.py").write_text(SCRIPT)
    began = "open('outputs/began', 'w').close()"
    steps = [cell(held(began)), {"text": "It is done."}, end()]
    (tmp_path / "steps.json").write_text(json.dumps({"steps": steps}))
    return CommandLine(tmp_path, RUNNER_STATE_DIR=str(tmp_path / "state"))


def lines(path: Path, kind: str) -> list[dict[str, Any]]:
    file = path / "transcript.jsonl"
    return [line for line, _ in read_lines(file) if line["type"] == kind]


def asked(path: Path) -> list[str]:
    said = lines(path, "message")
    return [line["content"][0].get("text", "") for line in said if line["role"] == "user"]


def test_it_talks_to_whoever_has_the_script(line: CommandLine) -> None:
    with line.starting(program=("talk.py",), stdin=subprocess.PIPE) as started:
        path = line.folder / "runs" / started.run_id
        started.said("the agent hears what you say")
        until(lambda: (path / "outputs" / "began").exists(), "the cell runs")
        stdin = started.process.stdin
        assert stdin
        stdin.write("And the other?\n")
        stdin.flush()
        workspace = path.parents[1] / "state"
        go = until(lambda: list(workspace.glob("*/workspace")), "its workspace")[0] / "go"
        go.touch()
        started.said("It is done.")
        stdin.write("Thank you.\n")
        stdin.close()  # who has said all leaves
        told = started.end()
    assert told.status == 0, told
    assert "after it began" in told.out
    assert asked(path) == ["Do it.\n\nBegin.", "And the other?", "Thank you."]
    assert lines(path, "end")[-1]["state"] == "done"
    report = verify(path)
    assert report.ok, "\n".join(map(str, report.findings))


def test_without_anybody_there_the_agent_ends_by_itself(line: CommandLine) -> None:
    (line.folder / "steps.json").write_text(json.dumps({"steps": [cell("1"), end()]}))
    with line.starting(program=("talk.py",)) as started:
        path = line.folder / "runs" / started.run_id
        told = started.end()
    assert told.status == 0, told
    assert asked(path) == ["Do it.\n\nBegin."]
    assert "after it" in told.out
