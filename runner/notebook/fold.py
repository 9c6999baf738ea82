"""Notebook: which journal line changes which cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.notebook.cell import Cell
from runner.notebook.outputs import (
    DATA_MESSAGES,
    Output,
    clean,
    count_of,
    data_of,
    dump,
    output_from,
    text_of,
)

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # nbformat 4.5
_FOOT = {
    "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}
_ENAMES = {
    "interrupted": "Interrupted",
    "kernel_died": "KernelDied",
    "restarted": "KernelRestarted",
    "lost": "SandboxLost",
}


class Notebook:
    """The notebook that the journal lines applied so far amount to.

    Lines of a type it does not know, or about cells it does not have, change
    nothing: a record of a newer version still renders.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.cells: dict[str, Cell] = {}
        self.version = 0
        self._order: list[str] = []
        self._last: Cell | None = None  # the one that ran last
        self._displays: dict[str, dict[Output, None]] = {}

    def order(self) -> list[str]:
        """List the ids of the cells, from top to bottom."""
        return list(self._order)

    def apply(self, line: Mapping[str, Any]) -> Cell | None:
        """Take one journal line; returns the cell it changed, if any.

        An `update_display_data` may change several: each one's `version` tells.
        """
        kind = line.get("type")
        if kind == "cell" and line.get("action") == "insert":
            return self._insert(line)
        cell = self.cells.get(str(line.get("cell")))
        if kind == "message":
            return self._message(line, cell)
        if cell is None or kind not in ("cell", "queued", "start", "end"):
            return None
        if kind == "cell":
            return self._edit(line, cell)
        if kind == "queued":
            if cell.running_op is None:
                cell.state, cell.reason = "queued", ""
        elif kind == "start":
            self._start(line, cell)
        elif cell.running_op in (None, line.get("op")):
            self._end(line, cell)
        return self._changed(cell)

    def render(self) -> str:
        """Write the .ipynb, ending in a newline."""
        return b"".join(self.pieces()).decode()

    def pieces(self) -> list[bytes]:
        """Write the .ipynb in UTF-8, in pieces to be written one after the other.

        Only cells that changed since the last call are serialised again.
        The list is the caller's: a thread may write it while lines are applied.
        """
        pieces = [b'{\n "cells": [']
        for cell_id in self._order:
            pieces += self.cells[cell_id].json()
            pieces.append(b",")
        pieces[-1:] = [b"\n ],"] if self._order else [pieces[-1] + b"],"]
        return [*pieces, dump(_FOOT, 0).removeprefix("{").encode(), b"\n"]

    def _changed(self, cell: Cell) -> Cell:
        self.version += 1
        cell.changed(self.version)
        return cell

    def _insert(self, line: Mapping[str, Any]) -> Cell | None:
        cell_id, index = str(line.get("cell")), line.get("index")
        if cell_id in self.cells or not _CELL_ID.fullmatch(cell_id):
            return None
        cell_type = "markdown" if line.get("cell_type") == "markdown" else "code"
        cell = Cell(cell_id, cell_type, text_of(line.get("source", "")))
        self.cells[cell_id] = cell
        self._order.insert(index if isinstance(index, int) else len(self._order), cell_id)
        return self._changed(cell)

    def _edit(self, line: Mapping[str, Any], cell: Cell) -> Cell | None:
        if line.get("action") == "replace":
            cell.source = text_of(line.get("source", ""))
        elif line.get("action") == "delete":
            self._forget(cell.clear())
            del self.cells[cell.id]
            self._order.remove(cell.id)
            self._last = None if self._last is cell else self._last
        else:
            return None
        return self._changed(cell)

    def _start(self, line: Mapping[str, Any], cell: Cell) -> None:
        self._forget(cell.clear())
        self._last = cell
        cell.running_op, cell.state, cell.reason = line.get("op"), "running", ""
        cell.started, cell.ended, cell.execution_count = _time(line), None, None
        cell.times = {}
        _note_time(cell, "shell.execute_reply.started", line)

    def _end(self, line: Mapping[str, Any], cell: Cell) -> None:
        if cell.running_op is None:  # it was queued and never ran
            self._forget(cell.clear())
            cell.started, cell.execution_count, cell.times = None, None, {}
        cell.running_op = None
        cell.state, cell.reason = text_of(line.get("state", "")), text_of(line.get("reason") or "")
        cell.ended = _time(line)
        cell.execution_count = count_of(line.get("execution_count")) or cell.execution_count
        if cell.started:
            _note_time(cell, "shell.execute_reply", line)
        if cell.state not in ("ok", "error") and not any(o.is_error for o in cell.shown):
            ename = _ENAMES.get(cell.state, cell.state)
            content = {
                "ename": ename,
                "evalue": cell.reason,
                "traceback": [f"{ename}: {cell.reason}" if cell.reason else ename],
            }
            cell.clear_next = False
            self._show(cell, Output(cell, _seq(line), output_from("error", content)))

    def _message(self, line: Mapping[str, Any], cell: Cell | None) -> Cell | None:
        kind, content = line.get("msg_type"), line.get("content")
        if not isinstance(content, dict):
            return None
        if cell is None and line.get("cell") is None and line.get("op") is None:
            cell = self._last
        if kind in ("update_display_data", *DATA_MESSAGES):
            updated = self._update(content)
            if kind == "update_display_data":
                return updated
        if cell is None or cell.cell_type != "code":
            return None
        if kind == "stream":
            self._stream(cell, content, _seq(line))
        elif kind in DATA_MESSAGES or kind == "error":
            display_id = "" if kind == "error" else _display_id(content)
            self._show(cell, Output(cell, _seq(line), output_from(kind, content), display_id))
            if kind == "execute_result":
                cell.execution_count = count_of(content.get("execution_count"))
        elif kind == "clear_output":
            cell.clear_next = bool(content.get("wait"))
            if not cell.clear_next:
                self._forget(cell.clear())
        elif kind == "execute_input":
            cell.execution_count = count_of(content.get("execution_count"))
            _note_time(cell, "iopub.execute_input", line)
        elif kind == "status" and line.get("op") is not None:
            if content.get("execution_state") not in ("busy", "idle"):
                return None
            _note_time(cell, f"iopub.status.{content['execution_state']}", line)
        else:
            return None
        return self._changed(cell)

    def _stream(self, cell: Cell, content: Mapping[str, Any], seq: int) -> None:
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        last = cell.shown[-1] if cell.shown else None
        if last is None or last.name != name or cell.clear_next:
            last = Output(cell, seq, {"output_type": "stream", "name": name})
            self._show(cell, last)
        last.write(text_of(content.get("text", "")), seq)

    def _show(self, cell: Cell, output: Output) -> None:
        if cell.clear_next:
            self._forget(cell.clear())
        self._forget(cell.add(output))
        if output.display_id:
            self._displays.setdefault(output.display_id, {})[output] = None

    def _update(self, content: Mapping[str, Any]) -> Cell | None:
        """Show new data wherever its display id is shown already."""
        cell = None
        for output in self._displays.get(_display_id(content), ()):
            output.update(data_of(content))
            cell = self._changed(output.cell)
        return cell

    def _forget(self, outputs: list[Output]) -> None:
        for output in outputs:
            shown = self._displays.get(output.display_id, {})
            shown.pop(output, None)
            if not shown:
                self._displays.pop(output.display_id, None)


def _display_id(content: Mapping[str, Any]) -> str:
    transient = content.get("transient")
    return str(transient.get("display_id") or "") if isinstance(transient, dict) else ""


def _seq(line: Mapping[str, Any]) -> int:
    seq = line.get("seq")
    return seq if isinstance(seq, int) else 0


def _time(line: Mapping[str, Any]) -> str | None:
    time = line.get("time")
    return str(clean(time)) if time else None


def _note_time(cell: Cell, key: str, line: Mapping[str, Any]) -> None:
    if time := _time(line):
        cell.times[key] = time
