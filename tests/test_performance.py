"""The figures' arithmetic, and that docs/performance.md shows what was measured."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
sys.path.append(str(TOP / "bench"))

from figures import Figure, Target, in_turn, quantile  # noqa: E402
from report import page  # noqa: E402

DOCS = TOP / "docs"


@pytest.mark.parametrize(
    ("ours", "theirs", "target", "words", "share"),
    [
        (3.0, 2.0, Target("ratio", most=1.5), "≤ 1.5 ×", 1.0),
        (4.0, 2.0, Target("ratio", most=1.5), "≤ 1.5 ×", 4 / 3),
        (40.0, 100.0, Target("ratio", least=0.5), "≥ 0.5 ×", 1.25),
        (0.2, None, Target("figure", most=0.3), "≤ 0.3 s", 2 / 3),
        (170.0, 70.0, Target("difference", most=150), "≤ 150 s more", 2 / 3),
        (0.0, 1.0, Target("figure", least=1.0), "≥ 1 s", float("inf")),
    ],
)
def test_a_promise_is_kept_or_not(
    ours: float, theirs: float | None, target: Target, words: str, share: float
) -> None:
    figure = Figure("group", "what", ours, "s", "", theirs, target)
    assert target.words("s") == words
    assert figure.share == pytest.approx(share)
    assert figure.met is (share <= 1)


def test_what_is_promised_nothing_neither_keeps_nor_breaks_it() -> None:
    assert Figure("group", "what", 1.0).met is None


def test_ways_are_taken_in_turn() -> None:
    asked: list[str] = []

    def way(name: str, told: float | None = None) -> float | None:
        asked.append(name)
        return told

    taken = in_turn({"a": lambda: way("a", 7.0), "b": lambda: way("b")}, 2, warm=1)
    assert asked == ["a", "b"] * 3
    assert taken["a"] == [7.0, 7.0], "a way that has measured itself"
    assert len(taken["b"]) == 2
    assert all(0 <= took < 60 for took in taken["b"])


def test_quantiles() -> None:
    times = [float(n) for n in range(101)]
    assert (quantile(times, 50), quantile(times, 99), quantile([3.0], 99)) == (50, 99, 3)


def test_the_page_shows_what_was_measured() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    text = (DOCS / "performance.md").read_text()
    assert page(text, found) == text, "`make bench` writes it"
    assert found["figures"]
    assert (DOCS / "performance.png").stat().st_size < 200_000


def test_the_figures_do_not_say_whose_machine_it_was() -> None:
    assert not re.search(r"(?<!\w)/\w+/", (DOCS / "performance.json").read_text())
