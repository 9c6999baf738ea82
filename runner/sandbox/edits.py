"""Cell edits: what may be changed, and how the change reads."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from runner.notebook import Notebook
from runner.sandbox.operations import DeleteCell, EditCell, ReplaceCell


@dataclass(frozen=True)
class Edit:
    """A cell's new source, None where it is deleted; or why it stays as it is."""

    source: str | None = None
    diff: str = ""
    refusal: str = ""


def edit(notebook: Notebook, request: EditCell | ReplaceCell | DeleteCell) -> Edit:
    """What a request makes of its cell. Nothing is changed yet."""
    cell = notebook.cells.get(request.cell)
    if cell is None:
        return Edit(refusal=f"there is no cell {request.cell}")
    if cell.state in ("queued", "running"):
        return Edit(refusal=f"cell {cell.id} is {cell.state}; interrupt it first")
    if isinstance(request, DeleteCell):
        return Edit(diff=_diff(cell.source, ""))
    if isinstance(request, ReplaceCell):
        return Edit(request.source, _diff(cell.source, request.source))
    times = _occurrences(cell.source, request.old)
    if times != 1:
        return Edit(
            refusal=f"the old text occurs {times} times in cell {cell.id}; it must occur once"
        )
    source = cell.source.replace(request.old, request.new)
    return Edit(source, _diff(cell.source, source))


def _occurrences(text: str, part: str) -> int:
    """How often it occurs, also where occurrences overlap."""
    return sum(text.startswith(part, place) for place in range(len(text) - len(part) + 1))


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "before", "after", lineterm=""
    )
    return "\n".join(lines)
