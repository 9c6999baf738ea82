"""Several runs beside each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runner.compare.outputs import TOLERANCE, Verdict, difference
from runner.record.run import RunState

Cells = Sequence[Mapping[str, Any]]
"""Of a notebook, as nbformat has them."""


@dataclass(frozen=True)
class Row:
    """One thing of each run; `values` are None where a run has none."""

    section: str
    key: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs do not all have the same."""
        return any(value != self.values[0] for value in self.values[1:])


@dataclass(frozen=True)
class Likeness:
    """How much of a notebook is as in another one.

    It counts the cells, those with the same source, and of these the ones with other outputs.
    """

    cells: int
    same_source: int
    other_outputs: int


@dataclass(frozen=True)
class Run:
    """A run to be compared."""

    state: RunState
    cells: Cells = field(repr=False)


def rows(runs: Sequence[Run]) -> list[Row]:
    """Configuration, outcome, score, what was spent, and outputs, a row for each key."""
    columns = [dict(_keys(run.state)) for run in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    return [
        Row(section, key, tuple(column.get((section, key)) for column in columns))
        for section, key in sorted(keys, key=lambda key: _SECTIONS.index(key[0]))
    ]


def likeness(first: Cells, other: Cells, tolerance: float = TOLERANCE) -> Likeness:
    """Compare the code of two notebooks, cell by cell, where the sources are the same."""
    one, two = ([cell for cell in cells if cell["cell_type"] == "code"] for cells in (first, other))
    before, after = (["".join(cell["source"]) for cell in cells] for cells in (one, two))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    pairs = [
        (one[block.a + n], two[block.b + n])
        for block in matcher.get_matching_blocks()
        for n in range(block.size)
    ]
    apart = sum(
        difference(a["outputs"], b["outputs"], tolerance).verdict is Verdict.DIFFERS
        for a, b in pairs
    )
    return Likeness(len(two), len(pairs), apart)


_SECTIONS = ("config", "outcome", "score", "spent", "outputs")


def _keys(run: RunState) -> Iterator[tuple[tuple[str, str], Any]]:
    for key, value in _flat(run.plan.get("experiment") or {}):
        yield ("config", key), value
    yield ("config", "backend"), run.backend
    for repo in run.repos:
        yield ("config", f"commit of {repo.get('url')}"), repo.get("commit")
    for package in run.packages:
        name, _, version = package.partition("==")
        yield ("config", f"package {name}"), version
    yield ("outcome", "state"), run.state
    yield ("outcome", "reason"), run.reason
    if isinstance(run.score, Mapping):
        for key, value in _flat(run.score):
            yield ("score", key), value
    elif run.score is not None:
        yield ("score", "score"), run.score
    yield ("spent", "turns"), run.turns
    for kind, tokens in run.tokens.items():
        yield ("spent", f"{kind} tokens"), tokens
    yield ("spent", "dollars"), run.cost_usd
    if run.started and run.ended:
        took = datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.started)
        yield ("spent", "seconds"), round(took.total_seconds(), 1)
    for output in run.outputs:
        yield ("outputs", output["path"]), {key: output[key] for key in ("bytes", "sha256")}


def _flat(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys, and what is not a table."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        elif value not in (None, {}, [], ()):
            yield f"{above}{key}", value
