"""The folders of experiments/ that are scripts, played on every backend; the answer is planted."""

from __future__ import annotations

import json

import pytest
from scripts_played import right
from tiny_runs import Lab


@pytest.mark.timeout(300)
def test_sandbox_intro(lab: Lab) -> None:
    [run] = right(lab, "sandbox-intro", r"^run (\S+)$")
    finding = json.loads((run.path / "outputs" / "finding.json").read_text())
    assert finding["group"] == "c"
    assert abs(finding["slope"] - 2.5) < 0.5


@pytest.mark.timeout(300)
def test_scoped_sandbox_intro(lab: Lab) -> None:
    user, model = right(lab, "scoped-sandbox-intro", r"^run (\S+) calls (\S+)$")
    finding = json.loads((user.path / "outputs" / "finding.json").read_text())
    assert (finding["feature"], finding["responds_to"]) == (29, "negation")
    # What the agent was to find out was nowhere where it could look.
    assert "PLANTED" not in (user.path / "journal.jsonl").read_text()
    assert '"function": "activations"' in "".join(
        json.loads(text).get("text", "")
        for text in (model.path / "journal.jsonl").read_text().splitlines()
        if '"type":"call"' in text
    )
