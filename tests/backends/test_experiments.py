"""The folders of experiments/ that are scripts, played on every backend; the answer is planted."""

from __future__ import annotations

import json

import pytest
from scripts_played import check, played, run_of
from tiny_runs import Lab


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
