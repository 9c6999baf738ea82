"""`runner compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.words import size

Several = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="The runs, or sweeps.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Show also what is the same in all of them.")]
WIDEST = 40
"""Characters of a value."""
_SHORT = 12

EXAMPLES = """
runner compare checkpoint-diffing-261123-0907-x7k2 checkpoint-diffing-261123-1130-9q1m
runner compare checkpoint-diffing-261124-1300-p4z8    the runs of a sweep
runner compare first-261123-0907-x7k2 second-261123-0907-y8m3 --all --json
"""


def command(cli: Cli, run: Several, everything: All = False) -> int:
    """Put runs side by side: configuration, outcome, score, what was spent, outputs, notebooks.

    Shows what is not the same in all of them. Outputs are compared by their sums; of the
    notebooks, each one's cells with those of the first run: how many have the same source, and
    how many of these came out differently. Changes nothing.
    """
    from runner.compare.runs import Run, likeness, rows
    from runner.errors import UsageError
    from runner.record import Record

    names = [member for word in run for member in _members(cli, word)]
    if len(set(names)) < 2:
        raise UsageError("compare: expected two runs at least", hint=cli.command("list"))
    # Each may be on another backend, to which a Cli turns once.
    paths = [Cli(cli.json, cli.runs, cli.backend).find(name) for name in dict.fromkeys(names)]
    found = [Run(Record.open(path).state(), _cells(path)) for path in paths]
    kept = [row for row in rows(found) if everything or row.differs]
    alike = [likeness(found[0].cells, other.cells) for other in found[1:]]
    ids = [path.name for path in paths]
    if cli.json:
        cli.emit(
            runs=ids,
            rows=[asdict(row) | {"differs": row.differs} for row in kept],
            notebooks=[asdict(one) for one in alike],
        )
        return 0
    from runner.cli.list import table

    lines: list[list[str]] = [["", *ids]]
    headings: dict[int, str] = {}
    for row in kept:
        if row.section not in headings.values():
            headings[len(lines)] = row.section
        lines.append([f"  {row.key}", *_shown(row.values)])
    headings[len(lines)] = "notebook"
    first = likeness(found[0].cells, found[0].cells)
    told = [f"{first.cells} cells", *(f"{one.cells} cells" for one in alike)]
    lines.append(["  cells", *told])
    lines.append(["  same source as first", "", *(str(one.same_source) for one in alike)])
    lines.append(["  of these other outputs", "", *(str(one.other_outputs) for one in alike)])
    table(lines, cli, headings)
    return 0


def _members(cli: Cli, word: str) -> list[str]:
    return [status.run_id for status in cli.sweep(word)] or [word]


def _cells(path: Path) -> list[dict[str, Any]]:
    file = path / "notebook.ipynb"
    cells: list[dict[str, Any]] = json.loads(file.read_bytes())["cells"] if file.exists() else []
    return cells


def _shown(values: Sequence[Any]) -> list[str]:
    return [_words(value) for value in values]


def _words(value: Any) -> str:
    match value:
        case None:
            return "-"
        case {"bytes": int(count), "sha256": str(sha256)}:
            return f"{size(count)} {sha256[:_SHORT]}"
        case str():
            text = " ".join(value.split())
        case float():
            text = f"{value:.6g}"
        case _:
            text = json.dumps(value, default=str)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
