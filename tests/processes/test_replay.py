"""Carrying a run out again on this machine: what cannot be, and how it is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from git_server import git_server
from tiny_runs import Lab, cell, end, held

from runner.record import Record


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def test_a_commit_that_is_gone_is_told_of(lab: Lab, tmp_path: Path) -> None:
    with git_server(tmp_path / "git") as server, lab.trusting(server.ca):
        commit = server.add_repo("lib", {"lib.py": "value = 7\n"})
        repo = f'{{ url = "{server.url("lib")}" }}'
        run = lab.submit(
            [cell("print(open('lib/lib.py').read())"), end()], f"[sandbox]\nrepos = [{repo}]\n"
        )
        assert run.over().state == "done"
        shutil.rmtree(server.root / "lib")
        shutil.rmtree(server.root.parent / f"{server.root.name}-work" / "lib")
        assert server.add_repo("lib", {"lib.py": "value = 8\n"}) != commit
        told = CommandLine(tmp_path, **lab.env)("replay", run.run_id)
    assert told.status == 3, told
    assert commit in told.words
    (record,) = (path for path in (tmp_path / "runs").iterdir() if path.name != run.run_id)
    state = Record.open(record).state()
    assert (state.state, "cloning failed" in state.reason) == ("failed", True), state.reason
    assert not (lab.settings.state_dir / record.name).exists()


def test_what_was_interrupted_is_left_out(lab: Lab, tmp_path: Path) -> None:
    steps = [
        cell("n = 1\nprint(n)"),
        cell("print(n + 1)"),
        cell(held(), timeout=1),
        end(),
    ]
    run = lab.submit(steps)
    assert run.over().state == "done"
    told = CommandLine(tmp_path, **lab.env)("replay", run.run_id, "--json")
    assert told.status == 0, told
    assert told.data["verdict"] == "same"
    assert [item["what"] for item in told.data["compared"]] == ["n = 1", "print(n + 1)"]
    (left_out,) = told.data["left_out"]
    assert left_out.endswith(": it was interrupted")
    shown = CommandLine(tmp_path, **lab.env)("replay", run.run_id)
    assert "2 same, 0 close, 0 differs, 1 not run" in shown.out
    told = CommandLine(tmp_path, **lab.env)("replay", json.loads(told.out)["run_id"])
    assert (told.status, "was driven by a script" in told.words) == (2, True), told
    for found in (tmp_path / "runs").iterdir():
        lab.adopt(lab.backend.attach(found.name))
