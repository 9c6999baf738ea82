"""Operations as the journal tells them: those of an earlier boot, and outputs of old ones."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any

from runner.notebook import Notebook
from runner.sandbox.operations import Operation

_KINDS = {
    "queued": "execute",
    "shell": "shell",
    "insert": "insert_cell",
    "replace": "replace_cell",
    "delete": "delete_cell",
    "file": "file",
}


def fold(lines: Iterable[dict[str, Any]], notebook: Notebook) -> dict[str, Operation]:
    """Apply all lines to the notebook; returns the operations in them."""
    operations: dict[str, Operation] = {}
    for line in lines:
        notebook.apply(line)
        op = line.get("op")
        if op is None:
            continue
        operation = operations.get(op)
        if operation is None:
            operation = Operation(op, "", line["boot"], queued=line["time"])
            operations[op] = operation
        _learn(operation, line)
    return operations


def _learn(operation: Operation, line: dict[str, Any]) -> None:
    operation.lines.add(line["seq"])
    operation.cell = line.get("cell") or operation.cell
    kind = line["type"]
    operation.kind = _KINDS.get(line.get("action", kind), operation.kind)
    if kind == "queued":
        operation.hidden = line["hidden"]
    elif kind in ("start", "shell"):
        operation.state, operation.started = "running", line["time"]
    elif kind == "end":
        operation.state, operation.reason = line["state"], line["reason"]
        operation.execution_count, operation.exit = line["execution_count"], line["exit"]
        operation.ended = line["time"]
        operation.done.set()


class OneCell:
    """The outputs of one operation, by the notebook's rules, from its lines alone."""

    def __init__(self) -> None:
        self._notebook = Notebook()
        self._notebook.apply({"type": "cell", "action": "insert", "cell": "it", "source": ""})

    def apply(self, line: dict[str, Any]) -> None:
        """Take one of its lines."""
        if line["type"] == "cell":
            return
        line = {**line, "cell": "it"}
        if line["type"] == "shell":
            line["type"] = "start"
        elif line["type"] == "shell_output":
            content = {"name": line["stream"], "text": line["text"]}
            line |= {"type": "message", "msg_type": "stream", "content": content}
        self._notebook.apply(line)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """In nbformat's shape."""
        return list(self._notebook.cells["it"].outputs)


@cache
def versions() -> dict[str, str]:
    """What this server is made of."""
    names = ("runner", "jupyter_server", "jupyter_client")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
