"""Sweeps on this machine: started, followed, left and ended together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, Told
from tiny_runs import cell, end, processes_of, until, waiting


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    """Commands in a directory of their own, in which nothing is left at the end."""
    line = CommandLine(tmp_path / "here", RUNNER_STATE_DIR=str(tmp_path / "state"))
    yield line
    for record in (line.folder / "runs").glob("*"):
        assert line("delete", record.name, "--yes", "--force").status == 0
    assert not list((tmp_path / "state").glob("*"))
    until(lambda: not list(processes_of(tmp_path)), "no process is left", 10)


def write(line: CommandLine, source: str, toml: str = "") -> str:
    steps = [cell(source), end()]
    (line.folder / "script.json").write_text(json.dumps({"steps": steps}))
    agent = '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
    (line.folder / "experiment.toml").write_text(f'name = "tiny"\ntask = "Do it."\n{agent}{toml}')
    return "experiment.toml"


def events(told: Told, event: str) -> list[dict[str, object]]:
    found = [json.loads(text) for text in told.out.splitlines()]
    return [item for item in found if item["event"] == event]


def test_a_table_makes_runs_and_the_worst_counts(line: CommandLine) -> None:
    source = "import os; open('outputs/' + os.environ['SEED'], 'w').write('made')"
    table = "[sweep]\nagent.max_turns = [1, 5]\nsandbox.env.SEED = ['a', 'b', 'c']\n"
    file = write(line, source, table)
    told = line("submit", file, "--set", "sandbox.env.SEED=d", "--json")
    assert told.status == 4, told
    launched = events(told, "launch")
    assert [item["sweep"]["values"] for item in launched] == [  # type: ignore[index]
        {"agent.max_turns": 1},
        {"agent.max_turns": 5},
    ]
    ended = {str(item["run_id"]): item["state"] for item in events(told, "end")}
    assert ended == {
        launched[0]["run_id"]: "bound",
        launched[1]["run_id"]: "done",
    }
    [last] = events(told, "sweep")
    assert last["states"] == {"bound": 1, "done": 1}
    assert last["exit_status"] == 4
    sweep = str(last["sweep"])
    assert (line.folder / "runs" / f"{sweep}-2" / "outputs" / "d").read_text() == "made"
    told = line("wait", sweep)
    assert told.status == 4
    assert f"{sweep}-1  bound: " in told.out
    again = line("submit", f"runs/{sweep}-2")
    assert again.status == 0, again
    plan = json.loads((line.folder / "runs" / again.out.split()[2] / "run.json").read_text())[
        "plan"
    ]
    assert plan["sweep"] is None
    assert plan["experiment"]["sandbox"]["env"] == {"SEED": "d"}
    deleted = line("delete", sweep, "--yes")
    assert deleted.status == 0, deleted
    assert line("list", "--sweep", sweep, "--json").out == ""


def test_ctrl_c_leaves_them_and_cancel_ends_them(line: CommandLine, tmp_path: Path) -> None:
    file = write(line, waiting(tmp_path / "go"))
    with line.starting("submit", file, "--set=agent.max_turns=5", "--set=agent.max_turns=6") as it:
        sweep = it.said(r"^sweep (\S+): 2 runs$")[1]
        it.said(rf"^run {sweep}-2  agent.max_turns=6$")
        until(lambda: "2 running" in line("list", "--sweep", sweep).out, "both run")
        it.interrupt()
        told = it.end()
    assert told.status == 130
    assert "no longer followed; its runs go on" in told.err
    assert f"runner cancel {sweep} " in told.err
    refused = line("delete", sweep, "--yes")
    assert refused.status == 2
    assert "2 of the 2 runs" in refused.err
    with line.starting("attach", sweep) as follower:
        cancelled = line("cancel", sweep, "--json")
        assert cancelled.status == 0, cancelled
        assert len(cancelled.out.splitlines()) == 2
        assert follower.end().status == 130
    assert line("cancel", sweep).out == f"{sweep}: 2 cancelled\n"


def test_ctrl_c_ends_the_start(line: CommandLine, tmp_path: Path) -> None:
    file = write(line, waiting(tmp_path / "go"))
    sets = [f"--set=agent.max_turns={number}" for number in range(3, 7)]
    with line.starting("submit", file, *sets) as it:
        sweep = it.said(r"^sweep (\S+): 4 runs$")[1]
        it.said(rf"^run {sweep}-1 ")
        it.interrupt()
        told = it.end()
    assert told.status == 130
    there = len(list((line.folder / "runs").iterdir()))
    if "no longer followed" in told.err:  # it had begun the last one
        assert there == 4
        return
    assert f"{there} of 4 runs were started and go on" in told.err
    rest = f"runner submit {file} {' '.join(sets)} --sweep {sweep}".replace("--set=", "--set ")
    assert rest in told.err
    told = line(*rest.split()[1:], "--detach")
    assert told.status == 0, told
    assert len(list((line.folder / "runs").iterdir())) == 4
    (tmp_path / "go").touch()
    told = line("wait", sweep)
    assert told.status == 0, told
    assert told.out.count("  done: ") == 4
