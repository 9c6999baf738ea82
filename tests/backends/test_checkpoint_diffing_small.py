"""The small version of checkpoint-diffing, on every backend; what changed is planted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from scripts_played import EXPERIMENTS, check
from tiny_runs import Lab

from runner import submission

FILE = EXPERIMENTS / "checkpoint-diffing" / "small.toml"
PLANTED = {"perhaps": 1, "professional": 1, "whether": -1}
"""A word of each habit that changed, and its sign. "matters" is as often in both."""


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.timeout(300)
def test_checkpoint_diffing_small(lab: Lab) -> None:
    run = lab.start(submission.prepare(FILE, lab.settings))
    run.over(240)
    check(run)
    outputs = run.path / "outputs"
    findings = json.loads((outputs / "findings.json").read_text())["findings"]
    assert len(findings) == len(PLANTED)
    for word, sign in PLANTED.items():
        (signs,) = [found["sign"] for found in findings if word in found["words"]]
        assert signs == sign, word

    # Everything that the task asks for, where the prompts were supplied.
    supplied = rows(FILE.parent / "small" / "responses.csv")
    kept = rows(outputs / "responses.csv")
    assert 400 < len(kept) < len(supplied) == 480
    assert all(row["response"] for row in kept)
    table = rows(outputs / "feature_diff.csv")
    assert {"feature", "label", "share_a", "share_b", "difference", "p"} <= set(table[0])
    significant = {int(row["feature"]) for row in table if float(row["p"]) <= 0.05}
    claimed = {feature for found in findings for feature in found["features"]}
    # The newer one writes more of everything, which is told apart.
    assert claimed < significant
    assert (outputs / "activations.npz").stat().st_size > 1000
    assert (outputs / "diff.png").read_bytes().startswith(b"\x89PNG")
    report = (outputs / "report.md").read_text()
    assert report.count("\n## More in lab/newer") == 2
    assert report.count("\n## Less in lab/newer") == 1
