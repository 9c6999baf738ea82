"""The notebook and file listings as the model reads them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from runner.agent.observe import as_text
from runner.agent.text import PAGE, clean, shorten
from runner.errors import UsageError

SUMMARY = 1_000
"""Characters of a cell's outputs in a page of the notebook."""
Cell = Mapping[str, Any]


def notebook_page(notebook: str, number: int) -> str:
    """One page (from 1) of an .ipynb: whole cells, as many as fit.

    Raises UsageError where there is no such page.
    """
    cells: list[Cell] = json.loads(notebook)["cells"]
    if not cells:
        return "[the notebook is empty]"
    pages = _pages(map(_summary, cells))
    if number > len(pages):
        raise UsageError(f"there is no page {number}: there are pages 1 to {len(pages)}")
    first = sum(map(len, pages[: number - 1])) + 1
    last = first + len(pages[number - 1]) - 1
    head = f"[page {number} of {len(pages)}: cells {first} to {last} of {len(cells)}]"
    return "\n\n".join([head, *pages[number - 1]])


def whole_cell(notebook: str, cell_id: str) -> str:
    """One cell of an .ipynb with all its outputs; UsageError where there is none."""
    for cell in json.loads(notebook)["cells"]:
        if cell["id"] == cell_id:
            outputs = as_text(cell.get("outputs", []))
            return f"{_source(cell)}\n--- outputs ---\n{outputs}" if outputs else _source(cell)
    raise UsageError(f"there is no cell {cell_id}; read_notebook shows those that are")


def file_line(entry: Mapping[str, Any]) -> str:
    """One entry of a listing."""
    name = clean(entry["path"]).replace("\n", "?")
    match entry["type"]:
        case "directory":
            return f"{name}/"
        case "file":
            return f"{name}  {entry['bytes']:,}"
    return f"{name}  ({entry['type']})"


def _pages(texts: Iterable[str]) -> list[list[str]]:
    pages: list[list[str]] = [[]]
    for words in texts:
        if pages[-1] and sum(map(len, pages[-1])) + len(words) > PAGE:
            pages.append([])
        pages[-1].append(words)
    return pages


def _source(cell: Cell) -> str:
    state = cell["metadata"].get("runner", {}).get("state", "")
    head = f"[{cell['cell_type']} cell {cell['id']}{f'; {state}' if state else ''}]"
    return f"{head}\n{clean(''.join(cell['source']))}"


def _summary(cell: Cell) -> str:
    how = f'read_cell(cell="{cell["id"]}")'
    source = shorten(_source(cell), PAGE - SUMMARY, how)
    outputs = shorten(as_text(cell.get("outputs", [])), SUMMARY, how)
    return f"{source}\n→ {outputs}" if outputs else source
