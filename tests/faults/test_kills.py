"""Each process of a run is killed at many moments; the run loses nothing by it.

The moment is a step boundary (a line of the transcript was just written) or any other. Which it
is follows from `--seed` and the moment's number; who is killed, from the number alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from invariants import (
    COLLECTED,
    NotebookReader,
    check,
    check_told,
    counted,
    counted_command,
    journal_of,
)
from tiny_runs import DEADLINE_S, Lab, Run, cell, end, held, tool, until
from victims import find, strike

from runner.backends.base import Status
from runner.record import runs

STEPS = [
    cell(counted("c0", 20, every_s=0.02, before="begun = 'begun'")),
    cell(counted("c1", 300, after="time.sleep(0.5)")),
    tool("run_shell", command=counted_command("s0")),
    cell(counted("c2", 5, before="open('outputs/c2.txt', 'w').write('c2')", after="print(begun)")),
    tool("restart_kernel"),
    cell(counted("c3", 30, every_s=0.02)),
    tool("add_markdown", source="That is all."),
    cell(counted("c4")),
    end(),
]
PARTS = ("worker", "kernel", "agent", "server", "client", "sandbox", "supervisor", "init")
KERNEL_LIVES = {"worker", "agent", "client", "supervisor", "init"}
"""Parts whose death the kernel outlives."""
MOST_RESUMES = 3


@dataclass(frozen=True)
class Undisturbed:
    """A run of these steps to which nothing happened."""

    notebook: list[Any]
    lines: int
    """Of its transcript."""
    took_s: float


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    lab = Lab(tmp_path_factory.mktemp("undisturbed"))
    began = time.monotonic()
    run = lab.submit(STEPS)
    notebooks = (run.path / "notebook.ipynb", run.root / "workspace" / "notebook.ipynb")
    with NotebookReader(*notebooks):
        assert run.over().state == "done"
    found = Undisturbed(read(run), len(run.lines()), time.monotonic() - began)
    lab.close()
    return found


def read(run: Run) -> list[Any]:
    """What somebody reads in the notebook: without ids and times."""
    cells = json.loads((run.path / "notebook.ipynb").read_text())["cells"]
    return [(cell["source"], cell["metadata"].get("runner"), cell.get("outputs")) for cell in cells]


def to_its_end(run: Run) -> Status:
    """Resume it until it is done, as somebody would."""
    for _ in range(1 + MOST_RESUMES):
        status = run.agent_over()
        if status.state in COLLECTED:
            break
        run.resume()
    # A sandbox whose first process was killed is not ended by anybody else.
    run.lab.backend.stop(run.handle, 30.0)
    return run.over()


def submitted_by_a_client_that_is_killed(lab: Lab, after_s: float) -> Run | None:
    """A run whose `submit` was killed, if it had got so far as to make one."""
    line = CommandLine(lab.top, RUNNER_STATE_DIR=str(lab.settings.state_dir))
    with line.starting("submit", str(lab.write(STEPS))) as started:
        time.sleep(after_s)  # the moment
        started.kill()
    made = [path.name for path in runs(lab.top / "runs")]
    return lab.adopt(lab.backend.attach(made[0])) if made else None


def kill_at_some_moment(
    run: Run, part: str, chance: random.Random, usual: Undisturbed, *, at_boundary: bool
) -> list[dict[str, Any]]:
    """Kill a part, or let the run end where it comes too late; the journal as it was before."""
    if at_boundary:
        lines = chance.randrange(3, usual.lines)
        until(lambda: len(run.lines()) >= lines or not run.status.agent_alive, "the line")
    else:
        time.sleep(chance.uniform(0, usual.took_s))  # the moment
    received = journal_of(run.root)
    until(
        lambda: strike(run, part, signal.SIGKILL) or not run.status.agent_alive,
        f"{part} is there",
    )
    return received


@pytest.mark.timeout(300)
def test_a_kill_costs_nothing_but_what_died(
    lab: Lab, chance: random.Random, moment: int, undisturbed: Undisturbed
) -> None:
    part, at_boundary = PARTS[moment % len(PARTS)], moment // len(PARTS) % 2 == 0
    if part == "client":
        run = submitted_by_a_client_that_is_killed(lab, chance.uniform(0, 5))
        if run is None:
            assert lab.unused() or not list(lab.settings.state_dir.iterdir())
            for left in (lab.top / "runs").glob("*"):
                assert left.name.startswith(".")
                os.utime(left, (0, 0))
            lab.submit([end()]).over()  # tidies up
            assert not list((lab.top / "runs").glob(".*"))
            return
    else:
        run = lab.submit(STEPS)
    received: list[dict[str, Any]] = []
    with NotebookReader(run.path / "notebook.ipynb", run.root / "workspace" / "notebook.ipynb"):
        if part != "client":
            received = kill_at_some_moment(run, part, chance, undisturbed, at_boundary=at_boundary)
        status = to_its_end(run)
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    check(run.path, run.root, received=received)
    check_told(run)
    if part in KERNEL_LIVES and status.run and len(status.run.sandboxes) == 1:
        assert read(run) == undisturbed.notebook


@pytest.mark.parametrize("part", ["worker", "agent"])
def test_a_kill_at_the_last_line_leaves_a_whole_record(lab: Lab, part: str) -> None:
    run = lab.submit([cell(counted("a", 1, after=held())), end("a 0")])
    until(lambda: run.lines("sandbox"), "the sandbox is there")
    victims = find(run, part)
    with (run.path / "transcript.jsonl").open("rb") as transcript:
        run.let_go()
        over = time.monotonic() + DEADLINE_S
        while b'"type":"end"' not in transcript.read():  # the moment is short
            assert time.monotonic() < over
        for process in victims:
            process.kill()
    assert run.over().state == "done"
    assert len(run.lines("attempt")) == 1
    check(run.path, run.root)


def test_a_sandbox_that_is_killed_while_it_prepares_leaves_nothing(
    lab: Lab, temporary: Path
) -> None:
    run = lab.submit([cell(counted("a", 1)), end("a 0")])
    until(lambda: list(temporary.glob("runner-*")), "the directory of its sockets")
    assert strike(run, "sandbox", signal.SIGKILL)
    assert run.agent_over().state == "failed"
    run.resume()
    assert run.over().state == "done"
    check(run.path, run.root)


def test_an_agent_that_is_killed_while_it_pulls_leaves_no_part_of_a_file(lab: Lab) -> None:
    large = "open('outputs/large', 'wb').truncate(100 << 20)"
    run = lab.submit([cell(counted("a", 1, before=large, after=held())), end("a 0")])
    until(lambda: list((run.path / "outputs").glob(".*")), "a file is being pulled")
    run.kill_agent()
    assert [file.name for file in (run.path / "outputs").iterdir()] != ["large"]
    run.resume()
    run.let_go()
    assert run.over().state == "done"
    assert [file.name for file in (run.path / "outputs").iterdir()] == ["large"]
    check(run.path, run.root)
