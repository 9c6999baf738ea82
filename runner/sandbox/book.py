"""The book of a sandbox: its journal, and the notebook and operations that it amounts to."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from runner.errors import OperationConflict, SandboxLost
from runner.masking import Mask
from runner.notebook import Notebook
from runner.sandbox import replay
from runner.sandbox.journal import Journal, now
from runner.sandbox.operations import Operation

RESULTS_HELD = 16 << 20
"""Bytes of outputs of ended operations in memory; those of others are read from the journal."""
READ_AT_ONCE = 256 << 10
LOGGED = {"execute": "cell", "shell": "command", "restart": "restart"}
"""Kinds of operations whose begin and end are in the process's log, as it calls them."""
LONGEST_REASON = 200

_log = logging.getLogger(__name__)

Outputs = list[dict[str, Any]]


class Changed(asyncio.Condition):
    """Wakes everybody who waits for the book to change."""

    _due = False
    _waiting = 0

    async def wait(self) -> Literal[True]:
        """Wait for the next change."""
        self._waiting += 1
        try:
            return await super().wait()
        finally:
            self._waiting -= 1

    def pulse(self) -> None:
        """Notify soon, once for many changes."""
        if self._waiting and not self._due:
            self._due = True
            self._task = asyncio.get_running_loop().create_task(self._notify())

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true."""
        if not true():
            async with self:
                await self.wait_for(true)

    async def _notify(self) -> None:
        self._due = False
        async with self:
            self.notify_all()


class Book:
    """Owns the journal. Notebook and operations change by a line of it, and by nothing else."""

    def __init__(self, path: Path, mask: Mask) -> None:
        self.boot = uuid.uuid4().hex[:16]
        self.mask = mask
        self.changed = Changed()
        self.journal = Journal(path, self.boot, mask, self.changed.pulse)
        self.notebook = Notebook()
        self.operations: dict[str, Operation] = {}
        self.warnings: list[str] = []
        self.gpus: dict[str, Any] = {}
        """The last line about GPUs, which an earlier boot may have written."""
        self._live: dict[str, replay.OneCell] = {}
        self._results: OrderedDict[str, tuple[int, Outputs]] = OrderedDict()
        self._held = 0

    def take_up(self) -> None:
        """Go on with the journal that an earlier boot left, and say what was lost with it."""
        earlier = self.journal.lines
        self.operations = replay.fold(self._known(), self.notebook)
        self.journal.append("boot", schema=1, versions=replay.versions())
        _log.info("server started (boot %s)", self.boot)
        for operation in self.operations.values():
            if not operation.final:
                self.end(operation, "lost", "the sandbox was restarted while this ran")
        if earlier:
            self.warn(
                "the sandbox was restarted: a new kernel runs, all variables are gone, "
                "files are still there"
            )

    def _known(self) -> Iterator[dict[str, Any]]:
        for line in self.journal.replay():
            if line["type"] == "gpus":
                self.gpus = line
            yield line

    # -- operations ------------------------------------------------------------------------

    def find(self, op: str, boot: str, digest: str) -> Operation | None:
        """The operation of that id, if this very request was made before.

        Raises SandboxLost when another boot was meant, OperationConflict when
        the id was used for another request.
        """
        known = self.operations.get(op)
        if boot != self.boot:
            raise SandboxLost(
                f"the sandbox that was asked (boot {boot}) is gone; this one is {self.boot}"
            )
        if known and known.boot != self.boot:
            raise SandboxLost(
                f"operation {op} belongs to an earlier boot of this sandbox ({known.boot}); "
                f"this one is {self.boot}"
            )
        if known and known.hash != digest:
            raise OperationConflict(f"operation {op} was used for another request already")
        return known

    def open(self, op: str, kind: str, digest: str, state: str = "queued") -> Operation:
        """A new operation; nothing is written down yet."""
        operation = Operation(op, kind, self.boot, digest, state, queued=now())
        self.operations[op] = operation
        return operation

    def watch(self, operation: Operation) -> None:
        """Keep the outputs of an operation that has no cell in the notebook, until its end."""
        self._live[operation.id] = replay.OneCell()

    async def outputs(self, operation: Operation) -> Outputs:
        """What an operation has put out so far, in nbformat's shape; long streams are capped."""
        if not operation.final:
            return self._current(operation)
        if (held := self._results.get(operation.id)) is not None:
            self._results.move_to_end(operation.id)
            return held[1]
        fold = replay.OneCell()
        for first, last in operation.lines.after(0):
            at = first - 1
            while at < last:
                for text in self.journal.read(at, READ_AT_ONCE, last).splitlines():
                    fold.apply(json.loads(text))
                    at += 1
                await asyncio.sleep(0)
        self._hold(operation, fold.outputs)
        return fold.outputs

    # -- writing down ----------------------------------------------------------------------

    def log(self, operation: Operation, type: str, **fields: Any) -> None:  # noqa: A002
        """A line about an operation."""
        line = self.journal.append(type, op=operation.id, cell=operation.cell, **fields)
        operation.lines.add(line["seq"])
        self.notebook.apply(line)
        if fold := self._live.get(operation.id):
            fold.apply(line)

    def note(self, type: str, **fields: Any) -> None:  # noqa: A002
        """A line about no operation."""
        line = self.journal.append(type, **fields)
        self.notebook.apply(line)
        if type == "kernel":
            _log.info("kernel %s: %s", line["event"], _short(line["reason"]))
        elif type == "warning":
            _log.info("warning: %s", _short(line["text"]))

    def warn(self, text: str) -> None:
        """Tell whoever drives this sandbox, and write it down."""
        self.warnings.append(text)
        self.note("warning", text=text)

    def start(self, operation: Operation) -> None:
        """It runs now."""
        operation.state, operation.started = "running", now()
        if operation.kind in LOGGED:
            _log.info("%s started", _called(operation))
        if operation.kind == "execute":
            self.log(operation, "start")

    def end(
        self,
        operation: Operation,
        state: str,
        reason: str = "",
        *,
        count: int | None = None,
        exit: int | None = None,  # noqa: A002
    ) -> None:
        """It has ended; an operation ends once, so what comes later changes nothing."""
        if operation.final:
            return
        operation.execution_count, operation.exit = count, exit
        fields = {"state": state, "reason": reason, "execution_count": count, "exit": exit}
        self.log(operation, "end", **fields)
        operation.state, operation.reason, operation.ended = state, self.mask(reason), now()
        if operation.kind in LOGGED:
            _log.info("%s %s", _called(operation), _outcome(operation))
        if operation.started and operation.boot == self.boot:
            self._hold(operation, self._current(operation))
        self._live.pop(operation.id, None)
        operation.done.set()

    def _current(self, operation: Operation) -> Outputs:
        if fold := self._live.get(operation.id):
            return fold.outputs
        cell = self.notebook.cells.get(operation.cell or "")
        # While it waits, its cell still shows what it showed before.
        waits = operation.state == "queued" or operation.kind != "execute"
        return [] if cell is None or waits else cell.outputs

    def _hold(self, operation: Operation, outputs: Outputs) -> None:
        """Keep a result at hand, and let go of those that nobody asked for the longest."""
        size = sum(_size(output) for output in outputs)
        if size > RESULTS_HELD:
            return
        self._results[operation.id] = size, outputs
        self._held += size
        while self._held > RESULTS_HELD:
            self._held -= self._results.popitem(last=False)[1][0]


def _called(operation: Operation) -> str:
    """What an operation is called in the log: its id, and the cell's. Never what is run."""
    cell = f" {operation.cell}" if operation.cell else ""
    return f"{LOGGED[operation.kind]}{cell} ({operation.id})"


def _outcome(operation: Operation) -> str:
    """How it ended, and after what time."""
    words = operation.state
    if operation.execution_count is not None:
        words += f" [{operation.execution_count}]"
    if operation.started and operation.ended:
        begun, ended = map(datetime.fromisoformat, (operation.started, operation.ended))
        words += f" after {(ended - begun).total_seconds():.1f} s"
    return words + (f": {_short(operation.reason)}" if operation.reason else "")


def _short(text: str) -> str:
    """Its first line, or as much of that as a log wants."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def _size(output: dict[str, Any]) -> int:
    """About how many bytes an output takes."""
    if output["output_type"] == "stream":
        return 200 + len(output["text"])
    return 200 + sum(len(str(part)) for part in [*output.get("data", {}).values(), *output.items()])
