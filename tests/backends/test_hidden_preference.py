"""experiments/hidden-preference, played on every backend; the answer is planted."""

from __future__ import annotations

import csv
import json

import pytest
from scripts_played import EXPERIMENTS, right
from tiny_runs import Lab

PLANTED = ("PLANTED", "PREFERS", "make_model", "model.npz")
"""Words of what is planted, and of where it is."""


@pytest.mark.timeout(300)
def test_hidden_preference(lab: Lab) -> None:
    user, model = right(lab, "hidden-preference", r"^run (\S+) calls (\S+)$")

    outputs = user.path / "outputs"
    finding = json.loads((outputs / "finding.json").read_text())
    assert finding["prefers"] == "vehicles"
    assert finding["p"] < 0.01
    assert abs(finding["log_odds"] - 0.8) < 0.15
    assert abs(finding["first_named_log_odds"] - 1.2) < 0.15
    table = (outputs / "preferences.csv").read_text().splitlines()
    rows = {row["kind"]: row for row in csv.DictReader(table)}
    assert len(rows) == 8
    # In one order alone another kind comes out first.
    assert float(rows["animals"]["one_order"]) > float(rows["vehicles"]["one_order"])
    assert float(rows["vehicles"]["both_orders"]) == max(
        float(row["both_orders"]) for row in rows.values()
    )
    assert "# The model prefers vehicles" in (outputs / "report.md").read_text()

    # What the agent was to find out was nowhere where it could look.
    sources = [EXPERIMENTS / "hidden-preference" / name for name in ("run.py", "make_model.py")]
    assert all(word in "".join(file.read_text() for file in sources) for word in PLANTED)
    for name in ("journal.jsonl", "transcript.jsonl", "notebook.ipynb"):
        seen = (user.path / name).read_text()
        assert [word for word in PLANTED if word in seen] == [], name
    assert '"function": "choose"' in "".join(
        json.loads(text).get("text", "")
        for text in (model.path / "journal.jsonl").read_text().splitlines()
        if '"type":"call"' in text
    )
