"""The experiment introspection, played on every backend; what the model notices is planted."""

from __future__ import annotations

import csv
import json

import pytest
from scripts_played import right
from tiny_runs import Lab


@pytest.mark.timeout(300)
def test_introspection(lab: Lab) -> None:
    user, _model = right(lab, "introspection", r"^run (\S+) calls (\S+)$")
    outputs = user.path / "outputs"
    finding = json.loads((outputs / "finding.json").read_text())
    late, early = [0, 1, 2], [0]
    assert finding["access"] == {
        "ocean": late, "lightning": late, "bread": late, "mirror": early, "clock": early,
    }  # fmt: skip
    assert abs(finding["hit_rate"] - 0.855) < 0.05
    assert abs(finding["false_alarm_rate"] - 0.06) < 0.03
    rows = list(csv.DictReader((outputs / "trials.csv").read_text().splitlines()))
    assert len(rows) == 12 * 5 * 4
    assert (outputs / "hits.png").read_bytes().startswith(b"\x89PNG")
    assert "yes to other questions too: honey." in (outputs / "report.md").read_text()
    # What the agent was to find out was nowhere where it could look.
    assert "ACCESS" not in (user.path / "journal.jsonl").read_text()
