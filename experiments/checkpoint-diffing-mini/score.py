"""Score a run of checkpoint-diffing-mini: `python score.py OUTPUTS_DIR` prints one JSON object.

This file is the answer key. It runs outside the sandbox, after the run, with the
standard library only; nothing in it is ever copied to where the agent works.

A planted habit counts as found when `findings.json` names its feature with the
right sign, `feature_diff.csv` shows that feature moving the same way by a plausible
amount, and at least one of the words given as evidence belongs to the habit, so
that naming features without reading documents earns nothing. Every other feature
named is a false finding, and costs as much as a miss.
"""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FILE = 5_000_000  # bytes; outputs come from the sandbox and are not trusted


@dataclass(frozen=True)
class Habit:
    """One thing that the toy checkpoints do in some share of their responses."""

    feature: int  # the SAE feature that fires on it
    a: float  # share of checkpoint A's responses
    b: float  # share of checkpoint B's responses
    sign: int  # +1 planted as more in B, -1 as less; 0: a decoy, not to be reported
    words: tuple[str, ...]


HABITS = {
    "hedging": Habit(
        143, 0.15, 0.60, +1, ("perhaps", "might", "maybe", "possibly", "seems", "arguably")
    ),
    "citing": Habit(
        58, 0.10, 0.50, +1, ("according", "study", "researchers", "survey", "journal", "reported")
    ),
    "exclaim": Habit(
        201, 0.65, 0.20, -1, ("!", "wow", "fantastic", "hooray", "brilliant", "amazing")
    ),
    "apology": Habit(
        90, 0.50, 0.10, -1, ("sorry", "apologize", "unfortunately", "regret", "forgive", "pardon")
    ),
    "listing": Habit(
        17, 0.50, 0.50, 0, ("first", "second", "third", "firstly", "secondly", "lastly")
    ),
    "numbers": Habit(
        226, 0.30, 0.34, 0, ("seven", "forty", "percent", "twelve", "dozen", "hundred")
    ),
    # As many responses in both, but B says it several times in each: fools a sum over tokens.
    "emphasis": Habit(
        119, 0.45, 0.45, 0, ("really", "absolutely", "truly", "extremely", "utterly", "indeed")
    ),
}
PLANTED = {name: habit for name, habit in HABITS.items() if habit.sign}
NAMES = {habit.feature: name for name, habit in HABITS.items()}


def read(path: Path) -> str:
    """Text of an output file; ValueError in words if it cannot be had."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is missing")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path.name} is larger than {LARGEST_FILE} bytes")
    return path.read_text(encoding="utf-8")


def read_findings(path: Path) -> dict[int, dict[str, Any]]:
    """The findings by feature; ValueError names what is wrong with the file."""
    try:
        findings = json.loads(read(path))["findings"]
        return {int(finding["feature"]): dict(finding) for finding in findings}
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path.name} has not the form the task asks for: {error!r}") from error


def read_differences(path: Path) -> dict[int, float]:
    """Difference in document frequency, B minus A, by feature."""
    try:
        rows = csv.DictReader(read(path).splitlines())
        return {int(row["feature"]): float(row["difference"]) for row in rows}
    except (TypeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path.name} has not the columns the task asks for: {error!r}") from error


def fault(habit: Habit, finding: dict[str, Any], difference: float) -> str | None:
    """Why a finding on a planted feature earns nothing, or None if it is right."""
    if finding.get("sign") != habit.sign:
        return "wrong sign"
    if not abs(difference - (habit.b - habit.a)) < 0.25:
        return "feature_diff.csv does not show it"
    words = finding.get("words")
    words = words if isinstance(words, list) else []
    if not {str(word).lower() for word in words} & set(habit.words):
        return "no word of it among the evidence"
    return None


def score(outputs: Path) -> dict[str, Any]:
    """The score of an outputs directory: 1 for the planted habits and nothing else, 0 for none."""
    try:
        findings = read_findings(outputs / "findings.json")
        differences = read_differences(outputs / "feature_diff.csv")
        problem = None
    except ValueError as error:
        findings, differences, problem = {}, {}, str(error)
    faults = {
        name: fault(habit, findings[habit.feature], differences.get(habit.feature, 0.0))
        for name, habit in PLANTED.items()
        if habit.feature in findings
    }
    found = [name for name, why in faults.items() if why is None]
    false = [
        NAMES.get(feature, f"feature {feature}")
        for feature in sorted(findings)
        if NAMES.get(feature) not in PLANTED
    ]
    result: dict[str, Any] = {
        "score": round(len(found) / (len(PLANTED) + len(false)), 3),
        "found": found,
        "missed": [name for name in PLANTED if name not in faults],
        "false": false,
        "faults": {name: why for name, why in faults.items() if why},
        "signs_right": bool(faults) and "wrong sign" not in faults.values(),
    }
    return result | ({"problem": problem} if problem else {})


if __name__ == "__main__":
    print(json.dumps(score(Path(sys.argv[1]))))
