"""The cells of the experiment introspection find what a network notices, and nothing else."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "experiments" / "introspection"


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The model's interface, importable as the notebook has it."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(builtins, "expose", lambda function: function, raising=False)
    spec = importlib.util.spec_from_file_location("subject", HERE / "interface.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "subject", module)
    yield module


def cells() -> list[Path]:
    steps = json.loads((HERE / "script.json").read_text())["steps"]
    calls = [call["input"] for step in steps for call in step.get("tools", [])]
    return [HERE / given["source_file"] for given in calls if "source_file" in given]


def found(folder: Path) -> dict[str, Any]:
    """What the script's cells find out."""
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        for cell in cells():
            exec(compile(cell.read_text(), cell.name, "exec"), names)
    names["plt"].close("all")
    finding: dict[str, Any] = json.loads((folder / "outputs" / "finding.json").read_text())
    return finding


@pytest.fixture(scope="module")
def seeds() -> list[int]:
    """Drawn anew each time; a failure names them."""
    return [random.SystemRandom().randrange(2**31) for _ in range(3)]


@pytest.mark.parametrize("number", range(3))
def test_finds_what_is_planted_whatever_it_is(
    subject: ModuleType, tmp_path: Path, seeds: list[int], number: int
) -> None:
    rng = random.Random(seeds[number])
    names = rng.sample(list(subject.CONCEPTS), 7)
    access = {name: rng.randrange(3) for name in names[:5]}
    subject.NETWORK = subject.Network(seeds[number], access, names[5], names[6])
    finding = found(tmp_path)
    expected = {name: list(range(last + 1)) for name, last in access.items()}
    assert finding["access"] == expected, seeds[number]
    assert abs(finding["hit_rate"] - subject.P_NOTICED * subject.P_NAMED) < 0.08, seeds[number]
    assert abs(finding["false_alarm_rate"] - subject.P_YES) < 0.05, seeds[number]
    report = (tmp_path / "outputs" / "report.md").read_text()
    assert f"other questions too: {names[5]}." in report, seeds[number]


@pytest.mark.parametrize("number", range(3))
def test_finds_nothing_where_nothing_is_noticed(
    subject: ModuleType, tmp_path: Path, seeds: list[int], number: int
) -> None:
    subject.NETWORK = subject.Network(seeds[number], {}, "music", "forest")
    finding = found(tmp_path)
    assert finding["access"] == {} and finding["hit_rate"] == 0, seeds[number]
    assert "No concept is noticed" in (tmp_path / "outputs" / "report.md").read_text()


def test_fishers_test_is_exact(subject: ModuleType, tmp_path: Path) -> None:
    """Against figures worked out by hand: 3 of 3 and 0 of 3 is one way in 20."""
    source = (HERE / "cells" / "test.py").read_text().partition("for row in rows:")[0]
    names: dict[str, Any] = {"math": __import__("math")}
    exec(source, names)
    assert names["more_often"](3, 3, 0, 3) == pytest.approx(1 / 20)
    assert names["more_often"](2, 3, 1, 3) == pytest.approx(10 / 20)
    assert names["more_often"](0, 3, 3, 3) == 1.0


def test_the_answer_key_is_what_the_network_is_made_with(subject: ModuleType) -> None:
    spec = importlib.util.spec_from_file_location("introspection_run", HERE / "run.py")
    assert spec and spec.loader
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    expected = {name: list(range(last + 1)) for name, last in subject.ACCESS.items()}
    rates = {"hit_rate": subject.P_NOTICED * subject.P_NAMED, "false_alarm_rate": subject.P_YES}
    assert run.PLANTED["access"] == expected
    assert {key: run.PLANTED[key] for key in rates} == pytest.approx(rates)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vectors": [[0.0]]}, r"vectors: expected \(any, 128\)"),
        ({"layer": 5}, "layer: expected 0 to 4, found 5"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    subject: ModuleType, given: dict[str, Any], words: str
) -> None:
    asked = {"vectors": [[0.0] * 128], "layer": 0, "strength": 1, "trials": 1, "seed": 0} | given
    with pytest.raises(ValueError, match=words):
        subject.ask("Well?", **asked)


def test_a_text_without_words_is_refused(subject: ModuleType) -> None:
    with pytest.raises(ValueError, match="text: expected words, found '17'"):
        subject.activations(["17"], 0)
