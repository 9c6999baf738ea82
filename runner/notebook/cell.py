"""One cell: its state, its bounded list of outputs, its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.notebook.outputs import Output, dump

OUTPUTS_CAP = 1_000
"""Outputs of one cell that the notebook keeps; a stream counts as one."""
SIZE_CAP = 32_000_000
"""Characters of one cell's outputs that the notebook keeps."""

_KEEP_FIRST = OUTPUTS_CAP // 2


@dataclass(eq=False, slots=True)
class Cell:
    """A cell as the journal tells it so far; only the fold changes it.

    `state` is "" (never run), queued, running, ok, error, interrupted,
    kernel_died, restarted or lost; `started` and `ended` are ISO 8601 times;
    `version` grows with every change and is never the same in two cells.
    """

    id: str
    cell_type: str
    source: str
    execution_count: int | None = None
    state: str = ""
    started: str | None = None
    ended: str | None = None
    reason: str = ""
    version: int = 0
    running_op: str | None = None
    clear_next: bool = False  # a `clear_output(wait=True)` waits for the next output
    times: dict[str, str] = field(default_factory=dict)  # JupyterLab's metadata.execution
    shown: list[Output] = field(default_factory=list)
    _size: int = 0  # of all outputs but the last, which may still grow
    _hole: int = -1  # where in `shown` outputs were left out
    _left_out: tuple[int, int, int] = (0, 0, 0)  # how many, in journal lines first to last
    _json: list[bytes] | None = None

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs as nbformat has them in memory."""
        outputs = [output.as_dict() for output in self.shown]
        if self._left_out[0]:
            outputs.insert(self._hole, self._note().as_dict())
        return outputs

    def changed(self, version: int) -> None:
        """Forget the JSON."""
        self.version, self._json = version, None

    def add(self, output: Output) -> list[Output]:
        """Show one more output; returns those that the bounds push out of the middle."""
        if self.shown:
            self._size += self.shown[-1].size()
        self.shown.append(output)
        gone: list[Output] = []
        while (len(self.shown) > OUTPUTS_CAP or self._size > SIZE_CAP) and len(self.shown) > 1:
            if self._hole < 0:
                self._hole = min(_KEEP_FIRST, len(self.shown) - 2)
            if self._hole >= len(self.shown) - 1:
                break
            left = self.shown.pop(self._hole)
            count, first, _ = self._left_out
            self._left_out = (count + 1, first or left.first, left.last)
            self._size -= left.size()
            gone.append(left)
        return gone

    def clear(self) -> list[Output]:
        """Show nothing; returns what was shown."""
        gone, self.shown = self.shown, []
        self._size, self._hole, self._left_out = 0, -1, (0, 0, 0)
        self.clear_next = False
        return gone

    def json(self) -> list[bytes]:
        """Write the cell as it stands in the file, in pieces to be joined."""
        if self._json is None:
            self._json = self._pieces()
        return self._json

    def _pieces(self) -> list[bytes]:
        body: dict[str, Any] = {"cell_type": self.cell_type, "id": self.id, "metadata": {}}
        source = {"source": self.source.splitlines(True)}
        if self.cell_type != "code":
            return [b"\n  " + dump(body | source, 2).encode()]
        body["execution_count"] = self.execution_count
        if self.times:
            body["metadata"]["execution"] = self.times
        if self.state:
            body["metadata"]["runner"] = {"reason": self.reason, "state": self.state}
        head = dump(body, 2).removesuffix("\n  }") + ',\n   "outputs": ['
        pieces = [b"\n  " + head.encode()]
        for place, output in enumerate(self.shown):
            if place == self._hole and self._left_out[0]:
                pieces += [self._note().json(), b","]
            pieces += [output.json(), b","]
        pieces[-1:] = [b"\n   ],"] if self.shown else [pieces[-1] + b"],"]
        return [*pieces, dump(source, 2).removeprefix("{").encode()]

    def _note(self) -> Output:
        count, first, last = self._left_out
        note = Output(self, first, {"output_type": "stream", "name": "stderr"})
        note.write(
            f"… {count} outputs left out; "
            f"all of them are in journal.jsonl, lines {first} to {last} …\n",
            last,
        )
        return note
