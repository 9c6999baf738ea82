"""The folders of experiments/ that are scripts, played as their user starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import CommandLine, Started
from tiny_runs import Lab, Run

from runner.record.verify import verify

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@contextmanager
def played(lab: Lab, name: str) -> Iterator[Started]:
    """The script of an experiment, played without a key."""
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    program = (str(EXPERIMENTS / name / "run.py"), "--scripted")
    with line.starting(program=program) as started:
        yield started


def run_of(lab: Lab, run_id: str) -> Run:
    """A run that a script started."""
    return lab.adopt(lab.backend.attach(run_id))


def check(run: Run) -> None:
    """It ended well, and its record holds."""
    assert run.status.state == "done", run.status.reason
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))
