"""The demo finds what is planted, on seeds nobody chose; its score tells right from wrong."""

import importlib
import json
import random
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[2] / "experiments" / "checkpoint-diffing-mini"
MODULES = ("make_checkpoints", "reader", "recovery", "score", "stats", "toy")


@pytest.fixture(autouse=True)
def experiment(monkeypatch):
    """The experiment's modules can be imported, for the length of a test."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("SEED", "0")
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(HERE / "lib")
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def scored(outputs):
    """What score.py prints, run as the runner runs it."""
    done = subprocess.run(
        [sys.executable, HERE / "score.py", outputs], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seeds():
    """Drawn anew each time; a failure names its seed, and recovery.play() repeats it."""
    return [random.SystemRandom().randrange(2**31) for _ in range(3)]


@pytest.mark.parametrize("number", range(3))
def test_finds_the_planted_four(tmp_path, seeds, number):
    importlib.import_module("recovery").play(tmp_path, seeds[number])
    result = scored(tmp_path / "outputs")
    assert set(result["found"]) == {"hedging", "citing", "exclaim", "apology"}, seeds[number]
    assert result["score"] == 1 and result["signs_right"], (seeds[number], result)
    assert not result["false"] and not result["missed"], (seeds[number], result)
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {
        "prompts.csv",
        "responses.csv",
        "activations.npz",
        "feature_diff.csv",
        "diff.png",
        "report.md",
        "findings.json",
    }
    assert (tmp_path / "outputs/report.md").read_text().count("\n## Feature ") == 4


@pytest.mark.parametrize("number", range(3))
def test_finds_nothing_between_identical_checkpoints(tmp_path, seeds, number):
    findings = importlib.import_module("recovery").play(tmp_path, seeds[number], same=True)
    assert findings == [], seeds[number]
    assert "No difference was found" in (tmp_path / "outputs/report.md").read_text()


def answer(outputs, change=lambda habits, findings: findings):
    """Write the right answer, after `change` made it wrong."""
    planted = importlib.import_module("score").PLANTED
    findings = [
        {"feature": habit.feature, "sign": habit.sign, "words": list(habit.words[:3])}
        for habit in planted.values()
    ]
    outputs.mkdir(exist_ok=True)
    rows = [f"{habit.feature},{habit.b - habit.a},0.0001" for habit in planted.values()]
    (outputs / "feature_diff.csv").write_text("\n".join(["feature,difference,p", *rows]))
    findings = change(planted, findings)
    (outputs / "findings.json").write_text(json.dumps({"findings": findings}))
    return outputs


def decoy(habits, findings):
    listing = importlib.import_module("score").HABITS["listing"]
    return [*findings, {"feature": listing.feature, "sign": 1, "words": list(listing.words)}]


@pytest.mark.parametrize(
    ("change", "score"),
    [
        (lambda habits, findings: findings, 1),
        (lambda habits, findings: findings[1:], 0.75),
        (lambda habits, findings: [findings[0] | {"sign": -1}, *findings[1:]], 0.75),
        (lambda habits, findings: [findings[0] | {"words": ["the"]}, *findings[1:]], 0.75),
        (decoy, 0.8),
        (lambda habits, findings: [{"feature": n, "sign": 1} for n in range(256)], 0),
        (lambda habits, findings: [], 0),
    ],
    ids=["right", "missed", "sign", "unread", "decoy", "everything", "nothing"],
)
def test_score_of_answers(tmp_path, change, score):
    assert scored(answer(tmp_path, change))["score"] == score


def test_score_needs_the_figures_behind_a_finding(tmp_path):
    outputs = answer(tmp_path)
    text = (outputs / "feature_diff.csv").read_text()
    (outputs / "feature_diff.csv").write_text("\n".join(text.splitlines()[:-1]))
    result = scored(outputs)
    assert result["score"] == 0.75
    assert result["faults"] == {"apology": "feature_diff.csv does not show it"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "\x00",
        '{"findings": 3}',
        '{"findings": [7]}',
        '{"findings": [{"feature": Infinity}]}',
        '{"findings": [{"feature": "a"}]}',
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_score_of_a_broken_file_is_zero_and_says_why(tmp_path, text):
    (answer(tmp_path) / "findings.json").write_text(text)
    result = scored(tmp_path)
    assert result["score"] == 0 and result["problem"]


def test_score_of_no_outputs_is_zero(tmp_path):
    result = scored(tmp_path / "none")
    assert result["score"] == 0 and len(result["missed"]) == 4
    assert result["problem"] == "findings.json is missing"


def test_score_follows_no_symlink(tmp_path):
    elsewhere = answer(tmp_path / "a")
    (tmp_path / "b").mkdir()
    shutil.copy(elsewhere / "feature_diff.csv", tmp_path / "b")
    (tmp_path / "b/findings.json").symlink_to(elsewhere / "findings.json")
    assert scored(tmp_path / "b")["score"] == 0


def test_data_is_what_the_generator_makes(tmp_path):
    importlib.import_module("make_checkpoints").make(tmp_path)
    assert (tmp_path / "labels.csv").read_text() == (HERE / "data/labels.csv").read_text()
    for path in (HERE / "data").glob("*.npz"):
        assert path.stat().st_size < 100_000
        with np.load(path) as kept, np.load(tmp_path / path.name) as made:
            assert sorted(kept) == sorted(made)
            for name in kept:
                if kept[name].dtype.kind == "f":
                    np.testing.assert_allclose(kept[name], made[name], atol=1e-3, err_msg=name)
                else:
                    assert (kept[name] == made[name]).all(), name


def test_what_the_agent_gets_does_not_name_the_answer():
    config = tomllib.loads((HERE / "experiment.toml").read_text())
    given = [HERE / config["task"], *(HERE / path for path in config["workspace"]["libraries"])]
    given += [path for top in config["sandbox"]["local_dirs"] for path in (HERE / top).iterdir()]
    assert not {path.name for path in given} & {config["score"], "make_checkpoints.py"}
    habits = importlib.import_module("score").HABITS
    for path in [*given, *importlib.import_module("recovery").cells(), HERE / "script.json"]:
        content = path.read_bytes().lower()
        assert not [name for name in ("hedging", "exclaim", "apolog") if name.encode() in content]
    labelled = (HERE / "data/labels.csv").read_text().splitlines()
    for name in ("hedging", "exclaim"):
        assert not [row for row in labelled if row.startswith(f"{habits[name].feature},")]
