"""The folders of experiments/ that are scripts, played on every backend; the answer is planted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import CommandLine, Started
from tiny_runs import Lab, Run

from runner.record.verify import verify

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@contextmanager
def played(lab: Lab, name: str) -> Iterator[Started]:
    """The script of an experiment, played without a key."""
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    program = (str(EXPERIMENTS / name / "run.py"), "--scripted")
    with line.starting(program=program) as started:
        yield started


def run_of(lab: Lab, run_id: str) -> Run:
    return lab.adopt(lab.backend.attach(run_id))


def check(run: Run) -> None:
    assert run.status.state == "done", run.status.reason
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))


@pytest.mark.timeout(300)
def test_sandbox_intro(lab: Lab) -> None:
    with played(lab, "sandbox-intro") as started:
        run = run_of(lab, started.said(r"^run (\S+)$")[1])
        told = started.end()
    assert told.status == 0, told
    assert told.out.splitlines()[-1] == "right"
    check(run)
    finding = json.loads((run.path / "outputs" / "finding.json").read_text())
    assert finding["group"] == "c"
    assert abs(finding["slope"] - 2.5) < 0.5


@pytest.mark.timeout(300)
def test_scoped_sandbox_intro(lab: Lab) -> None:
    with played(lab, "scoped-sandbox-intro") as started:
        found = started.said(r"^run (\S+) calls (\S+)$")
        user, model = run_of(lab, found[1]), run_of(lab, found[2])
        told = started.end()
    assert told.status == 0, told
    assert told.out.splitlines()[-1] == "right"
    check(user)
    check(model)
    finding = json.loads((user.path / "outputs" / "finding.json").read_text())
    assert (finding["feature"], finding["responds_to"]) == (29, "negation")
    # What the agent was to find out was nowhere where it could look.
    assert "PLANTED" not in (user.path / "journal.jsonl").read_text()
    assert '"function": "activations"' in "".join(
        json.loads(text).get("text", "")
        for text in (model.path / "journal.jsonl").read_text().splitlines()
        if '"type":"call"' in text
    )
