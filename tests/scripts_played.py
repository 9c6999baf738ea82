"""The folders of experiments/ that are scripts, played without a key."""

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


def right(lab: Lab, name: str, *patterns: str) -> list[Run]:
    """The runs of an experiment that was played and found what is planted.

    `patterns` are of lines that it prints, whose groups are their ids.
    """
    with played(lab, name) as started:
        made = [run_of(lab, id_) for text in patterns for id_ in started.said(text).groups()]
        told = started.end()
    assert told.status == 0, told
    assert told.out.splitlines()[-1] == "right"
    for run in made:
        check(run)
    return made


def run_of(lab: Lab, run_id: str) -> Run:
    return lab.adopt(lab.backend.attach(run_id))


def check(run: Run) -> None:
    assert run.status.state == "done", run.status.reason
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))
