"""A part of a run in containers is killed at some moment; the run loses nothing by it.

The short form of tests/faults, with the same invariants. Which moment it is follows from `--seed`
and the moment's number; who is killed, from the number alone.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from container_victims import PARTS, processes, strike
from invariants import (
    COLLECTED,
    NotebookReader,
    check_journal,
    check_let_go,
    check_record,
    check_told,
    counted,
    counted_command,
)
from tiny_runs import Lab, Run, cell, end, held, tool, until

from runner.backends.base import Status
from runner.record import ENDED

RAN = "outputs/ran"
"""Where what a sandbox had outlives it."""
STEPS = [
    cell(counted("c0", 20, every_s=0.02, before="begun = 'begun'", ran=RAN)),
    cell(counted("c1", 300, after="time.sleep(2)", ran=RAN)),
    tool("run_shell", command=counted_command("s0", RAN)),
    cell(counted("c2", 30, every_s=0.02, ran=RAN)),
    tool("restart_kernel"),
    cell(counted("c3", 30, every_s=0.02, after="time.sleep(3)", ran=RAN)),
    end(),
]
FIRST, LAST = 8, 19
"""Lines of the transcript that the first cell is asked for in, and about the last."""
MOST_RESUMES = 3
MOST_PIDS = 200
"""Of a sandbox in which a fork bomb is lit."""
FORKS = (
    "import os\n"
    "for n in range(1000):\n"
    "    if os.fork() == 0: time.sleep(600), os._exit(0)\n"
    "print('forked on')"
)
SHELL_FORKS = "for n in $(seq 1000); do sleep 600 & done; echo forked on"

DOCKER = pytest.param("docker", marks=pytest.mark.docker)
CLUSTER = pytest.param("kubernetes", marks=pytest.mark.cluster)

pytestmark = pytest.mark.timeout(300)


def to_its_end(run: Run) -> Status:
    """Wait until it is over, and resume it where somebody would."""

    def ended() -> Status | None:
        status = run.synced().status
        alive = status.agent_alive or status.sandbox_alive
        return status if status.state in ENDED and not alive else None

    for _ in range(1 + MOST_RESUMES):
        status: Status = until(ended, f"{run.run_id} is over", 200)
        if status.state in COLLECTED:
            break
        run.resume()
    return run.over()


def check(run: Run, status: Status) -> None:
    """The invariants of tests/faults, of a run in containers that is done; it is deleted then."""
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    check_record(run.path)
    boots = {line["boot"] for line in run.lines("sandbox")}
    check_journal(run.journal(), run.path / RAN, whole=len(boots) == 1)
    check_told(run)
    marks = run.lab.cgroups(run)
    run.lab.backend.delete(run.handle)
    until(lambda: not processes(marks), "its processes end", 60)
    check_let_go(run.path)


@pytest.mark.parametrize("make_lab", [DOCKER, CLUSTER], indirect=True)
def test_a_kill_costs_nothing_but_what_died(lab: Lab, chance: random.Random, moment: int) -> None:
    part = PARTS[moment % len(PARTS)]
    run = lab.submit(STEPS)
    with lab.backend.following(run.handle), NotebookReader(run.path / "notebook.ipynb"):
        lines = chance.randrange(FIRST, LAST + 1)
        until(lambda: len(run.lines()) >= lines or not run.status.agent_alive, f"line {lines}")
        time.sleep(chance.uniform(0, 1))  # the moment
        until(
            lambda: strike(lab.cgroups(run), part) or not run.status.agent_alive,
            f"{part} is there",
        )
        status = to_its_end(run)
    check(run, status)


@pytest.mark.parametrize("make_lab", [DOCKER], indirect=True)
def test_a_fork_bomb_ends_at_the_bound_and_the_run_goes_on(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = make_lab(tmp_path, docker={"pids": MOST_PIDS})
    with contextlib.closing(lab):
        run = lab.submit(
            [
                cell(counted("c0", ran=RAN, after=held())),
                cell(counted("c1", ran=RAN, after=FORKS)),
                tool("restart_kernel"),
                cell(counted("c2", 3, ran=RAN)),
                tool("run_shell", command=SHELL_FORKS, timeout=60),
                cell(counted("c3", 3, ran=RAN)),
                end(),
            ]
        )
        run.wait_for_output(Path(RAN).name)
        with lab.backend.following(run.handle), NotebookReader(run.path / "notebook.ipynb"):
            run.let_go()
            status = to_its_end(run)
        results = run.results()
        print(*results, sep="\n---\n")  # noqa: T201 - shown where the test fails
        assert "Resource temporarily unavailable" in results[1]
        assert "c2 2" in results[3]
        assert re.search("[Cc]annot fork|Resource temporarily unavailable", results[4])
        assert "forked on" not in results[4]
        assert "c3 2" in results[5]
        assert len({line["boot"] for line in run.journal()}) == 1
        check(run, status)
