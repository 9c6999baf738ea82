"""What every bench of this machine shares: figures with their targets, and ways taken in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """What is promised of a figure, or of its ratio to, or distance from, what it stands beside."""

    of: Literal["figure", "ratio", "difference"]
    most: float | None = None
    least: float | None = None

    def words(self, unit: str) -> str:
        """As a table has it."""
        sign, bound = ("≤", self.most) if self.least is None else ("≥", self.least)
        unit = "×" if self.of == "ratio" else unit
        more = " more" if self.of == "difference" else ""
        return f"{sign} {bound:.3g} {unit}".rstrip() + more


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, what it stands beside, and what was promised."""

    group: str
    what: str
    ours: float
    unit: str = ""
    beside: str = ""
    theirs: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """How many times what it stands beside."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def share(self) -> float | None:
        """How much of what is allowed it takes: 1 is just met, less is better."""
        if self.target is None:
            return None
        found = {
            "figure": self.ours,
            "ratio": self.ratio or 0.0,
            "difference": self.ours - (self.theirs or 0.0),
        }[self.target.of]
        if self.target.least is not None:
            return self.target.least / found if found else float("inf")
        return found / self.target.most if self.target.most else float("inf")

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where there is none."""
        return None if self.share is None else self.share <= 1.0

    def as_json(self) -> dict[str, Any]:
        """For docs/performance.json."""
        return {
            "group": self.group,
            "what": self.what,
            "ours": rounded(self.ours),
            "unit": self.unit,
            "beside": self.beside,
            "theirs": rounded(self.theirs),
            "ratio": rounded(self.ratio),
            "target": self.target.words(self.unit) if self.target else "",
            "share": rounded(self.share),
            "met": self.met,
        }


def rounded(value: float | None) -> float | None:
    """To three digits: the fourth is another one in the next run."""
    return None if value is None else float(f"{value:.3g}")


def in_turn(
    ways: Mapping[str, Callable[[], Any]], rounds: int, *, warm: int = 0
) -> dict[str, list[float]]:
    """Seconds that each way took, one of each in every round: what slows one slows all.

    A way that returns a number is taken at its word: it has measured a part of itself.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm + rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            told = way()
            took = told if isinstance(told, float) else time.perf_counter() - began
            if number >= warm:
                taken[name].append(took)
    return taken


def quantile(times: Sequence[float], percent: int) -> float:
    """The time that so many of a hundred do not exceed."""
    if len(times) == 1:
        return times[0]
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def table(rows: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Figures, as `as_json` has them, as cells of text under a header."""
    lines = [["figure", "measured", "beside", "", "ratio", "target", "met"]]
    for row in rows:
        theirs = f"{row['theirs']:g} {row['unit']}".rstrip() if row["theirs"] is not None else ""
        lines.append(
            [
                f"{row['group']}: {row['what']}",
                f"{row['ours']:g} {row['unit']}".rstrip(),
                row["beside"],
                theirs,
                f"{row['ratio']:.2f} ×" if row["ratio"] is not None else "",
                row["target"],
                {True: "yes", False: "**no**", None: ""}[row["met"]],
            ]
        )
    return lines


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print them in columns."""
    cells = table(rows)
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(size) for cell, size in zip(line, wide, strict=True)).rstrip())


def run(measure: Callable[[Path, bool], list[Figure]], about: str) -> None:
    """The command line of one bench: measure in a directory of its own, and print."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    given = parser.parse_args()
    # Short, as Unix sockets have short names.
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as top:
        rows = [figure.as_json() for figure in measure(Path(top), given.quick)]
    print(json.dumps(rows, indent=1)) if given.json else show(rows)
