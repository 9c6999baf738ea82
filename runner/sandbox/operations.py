"""What a client can ask a sandbox to do, and what became of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from array import array
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FINAL = frozenset({"ok", "error", "interrupted", "kernel_died", "restarted", "lost"})
"""The states that an operation ends in, exactly one each."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Execute(_Request):
    """Run code in the kernel: in a new cell at the end, in an existing `cell`, or hidden."""

    kind: Literal["execute"]
    source: str | None = None
    cell: str | None = None
    hidden: bool = False


class Shell(_Request):
    """Run a command with the shell, in the workspace, beside the kernel."""

    kind: Literal["shell"]
    command: str


class InsertCell(_Request):
    """Add a cell without running it."""

    kind: Literal["insert_cell"]
    source: str
    cell_type: Literal["code", "markdown"] = "markdown"
    index: int | None = None


class EditCell(_Request):
    """Replace `old`, which must occur exactly once in the cell, by `new`."""

    kind: Literal["edit_cell"]
    cell: str
    old: str = Field(min_length=1)
    new: str


class ReplaceCell(_Request):
    """Give a cell another source."""

    kind: Literal["replace_cell"]
    cell: str
    source: str


class DeleteCell(_Request):
    """Take a cell out of the notebook; the journal keeps it."""

    kind: Literal["delete_cell"]
    cell: str


class Restart(_Request):
    """Kill the kernel and start another one."""

    kind: Literal["restart"]


Request = Annotated[
    Execute | Shell | InsertCell | EditCell | ReplaceCell | DeleteCell | Restart,
    Field(discriminator="kind"),
]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


def digest(request: Any) -> str:
    """What makes two requests the same: the hash of their JSON, keys sorted."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@dataclass
class Operation:
    """One thing that was asked for, and how far it is."""

    id: str
    kind: str
    boot: str
    hash: str = ""
    state: str = "queued"
    reason: str = ""
    cell: str | None = None
    source: str = ""
    hidden: bool = False
    execution_count: int | None = None
    exit: int | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """nbformat outputs; long streams are capped, the journal has them whole."""
    result: dict[str, Any] = field(default_factory=dict)
    queued: str = ""
    started: str | None = None
    ended: str | None = None
    interrupting: bool = False
    lines: array[int] = field(default_factory=lambda: array("Q"))
    """Numbers of its journal lines."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL

    def view(self) -> dict[str, Any]:
        """What a client is told, without the outputs."""
        return {
            "id": self.id,
            "kind": self.kind,
            "boot": self.boot,
            "state": self.state,
            "final": self.final,
            "reason": self.reason,
            "cell": self.cell,
            "execution_count": self.execution_count,
            "exit": self.exit,
            "result": self.result,
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
        }
