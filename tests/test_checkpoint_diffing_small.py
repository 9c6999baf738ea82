"""The cells of the small checkpoint-diffing find what is planted, and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner import submission

HERE = Path(__file__).parents[1] / "experiments" / "checkpoint-diffing"
SMALL, FULL = HERE / "small.toml", HERE / "experiment.toml"
MODULES = ("interp_embed", "interp_embed.sae", "make_responses", "openrouter_client", "stats")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The generator, with the libraries of the experiment importable, for the length of a test."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    for folder in (HERE, HERE / "small", HERE.parent / "checkpoint-diffing-mini" / "lib"):
        monkeypatch.syspath_prepend(folder)
    for name, value in submission.load(SMALL, None).sandbox.env.items():
        monkeypatch.setenv(name, value)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("make_responses")
    for name in MODULES:
        sys.modules.pop(name, None)


def play(workspace: Path, last: str = "report") -> dict[str, Any]:
    """The script's cells, up to one of them; what they leave."""
    (workspace / "openrouter").mkdir()
    shutil.copy(HERE / "small" / "models.json", workspace / "openrouter" / "models")
    steps = json.loads((HERE / "script.json").read_text())["steps"]
    calls = [call["input"] for step in steps for call in step.get("tools", [])]
    names: dict[str, Any] = {}
    with contextlib.chdir(workspace):
        for given in calls:
            if "source_file" in given:
                cell = HERE / given["source_file"]
                exec(compile(cell.read_text(), cell.name, "exec"), names)
                if cell.stem == last:
                    break
    names["plt"].close("all")
    return names


@pytest.fixture(scope="module")
def seed() -> int:
    """Drawn anew each time; a failure names it."""
    return random.SystemRandom().randrange(2**31)


def test_finds_what_is_planted(
    make: ModuleType, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", str(seed))
    make.make(tmp_path / "responses.csv", seed)
    findings = play(tmp_path)["findings"]
    assert len(findings) == len(make.PLANTED), (seed, findings)
    for name, habit in make.PLANTED.items():
        (found,) = [one for one in findings if set(one["words"]) & set(habit.words)]
        assert found["sign"] == (1 if habit.newer > habit.older else -1), (seed, name)


@pytest.mark.parametrize("lengths", [False, True])
def test_finds_nothing_where_no_habit_changed(
    make: ModuleType, tmp_path: Path, seed: int, lengths: bool
) -> None:
    make.make(tmp_path / "responses.csv", seed, habits=False, lengths=lengths)
    assert play(tmp_path)["findings"] == [], seed
    assert "Nothing was found" in (tmp_path / "outputs" / "report.md").read_text()


def test_ends_where_a_model_is_retired_and_nothing_was_supplied(
    make: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="not served any more, and no responses"):
        play(tmp_path, "responses")


def test_the_supplied_responses_are_what_the_generator_makes(
    make: ModuleType, tmp_path: Path
) -> None:
    make.make(tmp_path / "responses.csv")
    supplied = (HERE / "small" / "responses.csv").read_text()
    assert (tmp_path / "responses.csv").read_text() == supplied


def test_it_is_the_same_experiment() -> None:
    small, full = submission.load(SMALL, None), submission.load(FULL, None)
    assert small.task == full.task
    assert set(full.workspace.libraries) < set(small.workspace.libraries)
    assert set(full.sandbox.env) == set(small.sandbox.env)
    assert not small.sandbox.gpu and not small.secrets
    # What stands in for the repository has its name.
    assert [repo.name for repo in full.sandbox.repos] == ["interp_embed"]
    assert "interp_embed" in {path.stem for path in small.workspace.libraries}


def test_what_the_agent_gets_does_not_name_the_answer(make: ModuleType) -> None:
    small = submission.load(SMALL, None)
    given = [path for top in small.workspace.libraries for path in (top, *top.rglob("*.py"))]
    given += [*(HERE / "cells").iterdir(), HERE / "script.json", HERE / "small" / "models.json"]
    assert "make_responses.py" not in {path.name for path in given}
    begins = [habit.sentence.partition(" {")[0].lower() for habit in make.HABITS.values()]
    for path in given:
        if path.is_file():
            assert not [begin for begin in begins if begin in path.read_text().lower()], path


def test_the_stand_in_reads_as_the_package_does(make: ModuleType) -> None:
    import pandas as pd

    interp_embed = importlib.import_module("interp_embed")
    texts = ["The river is wide.", "A bridge over the river!", "Nothing of that."]
    sae = interp_embed.sae.SmallSAE.fit(texts)
    dataset = interp_embed.Dataset(pd.DataFrame({"text": texts}), sae=sae)
    strongest = dataset.latents("max")
    assert strongest.shape[0] == len(dataset) == 3 and strongest.min() >= 0
    fires = [
        set(dataset.top_documents_for_feature(feature)) for feature in range(strongest.shape[1])
    ]
    assert {"the <<river>> is wide .", "a bridge over the <<river>> !"} in fires
    with pytest.raises(ValueError, match="this stand-in has max"):
        dataset.latents("mean")
