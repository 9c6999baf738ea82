"""What a client can ask a sandbox to do, and what became of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator
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


class Lines:
    """Numbers of an operation's journal lines, as runs: they mostly follow each other."""

    def __init__(self) -> None:
        self._firsts, self._lasts = array("Q"), array("Q")

    @property
    def last(self) -> int:
        """The last line's number, 0 if there is none."""
        return self._lasts[-1] if self._lasts else 0

    def add(self, number: int) -> None:
        """One more, the highest so far."""
        if self._lasts and self._lasts[-1] == number - 1:
            self._lasts[-1] = number
        else:
            self._firsts.append(number)
            self._lasts.append(number)

    def after(self, number: int) -> Iterator[tuple[int, int]]:
        """Runs of lines (first, last) after a number."""
        for place in range(bisect_right(self._lasts, number), len(self._lasts)):
            yield max(self._firsts[place], number + 1), self._lasts[place]


@dataclass(eq=False)
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
    diff: str = ""
    queued: str = ""
    started: str | None = None
    ended: str | None = None
    interrupting: bool = False
    lines: Lines = field(default_factory=Lines)
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
            "result": {"diff": self.diff} if self.diff else {},
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
        }
