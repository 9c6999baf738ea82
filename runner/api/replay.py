"""Carrying out again, in a fresh sandbox, what a record says was carried out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.api.driven import DrivenRun, failed
from runner.backends import backend_of
from runner.compare.outputs import TOLERANCE, Difference, Verdict, difference, text_difference
from runner.compare.steps import CELL, FILE, HIDDEN, RESTART, SHELL, Step, steps
from runner.errors import UsageError
from runner.notebook import Notebook
from runner.record import Record, read_lines
from runner.session import Result
from runner.settings import Settings
from runner.submission import repeat

LEAST_S, TIMES = 120.0, 10.0
"""How long a step may take: so many seconds, or so many times what it took before."""
_RAN = ("ok", "error")
_ENDS = {
    "interrupted": "it was interrupted",
    "kernel_died": "its kernel died",
    "restarted": "its kernel was restarted",
    "lost": "its sandbox was lost",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Compared:
    """A cell, a command or a file: how what came out differs; `what` names it."""

    kind: str
    what: str
    difference: Difference
    before_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What came of it: `run_id` is the replay's own run, `left_out` what was not done again."""

    of: str
    run_id: str
    record: Path
    compared: tuple[Compared, ...]
    left_out: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The farthest that anything differs."""
        return max((item.difference.verdict for item in self.compared), default=Verdict.SAME)


def replay(path: Path, settings: Settings, say: Say, tolerance: float = TOLERANCE) -> Replay:
    """Do again what the record at `path` has: cells, commands and files, in their order.

    The sandbox has the same commits, packages, models, inputs and image. What was interrupted is
    left out. Raises UsageError where there is nothing to do again, and RunnerError where the
    sandbox cannot be had or is lost; then the replay's own record says why.
    """
    before = Record.open(path)
    todo = steps(_lines(path / "journal.jsonl"), _lines(path / "transcript.jsonl"))
    if not todo:
        raise UsageError(f"{path}: nothing was carried out in it, so nothing can be again")
    submission = repeat(path, settings, None, say, agent=False)
    driven = DrivenRun.begin(submission, settings, backend_of(settings), "runner replay")
    try:
        doing = _Doing(driven)
        for number, step in enumerate(todo, 1):
            say(f"{number} of {len(todo)}: {step.kind} {first_line(step)}")
            doing.do(step)
        driven.end()
    except BaseException as error:
        driven.end(failed(error, "the replay was not finished"))
        raise
    after = Record.open(driven.record.path)
    compared = [
        *_cells(path, todo, doing, tolerance),
        *_commands(doing, steps(_lines(after.path / "journal.jsonl")), tolerance),
        *_files(before.state().outputs, after.state().outputs),
    ]
    return Replay(path.name, driven.plan.run_id, after.path, tuple(compared), tuple(doing.left_out))


class _Doing:
    """The steps, done one after the other in one sandbox."""

    def __init__(self, driven: DrivenRun) -> None:
        self._session = driven.session
        self.cells: dict[str, Result] = {}
        """By the id of the cell in the record, its last execution here."""
        self.commands: list[tuple[Step, Result]] = []
        self.left_out: list[str] = []
        self._ids: dict[str, str] = {}
        self._sources: dict[str, str] = {}

    def do(self, step: Step) -> None:
        """Do one again, and keep what came of it."""
        if step.kind == RESTART:
            self._session.restart()
        elif step.source is None:
            self.left_out.append(f"file {step.path}: no record has what was written into it")
        elif step.state not in _RAN:
            words = _ENDS.get(step.state, "it was still running")
            self.left_out.append(f"{step.kind} {first_line(step)}: {words}")
        elif step.kind == FILE:
            self._write(step, step.source.encode("utf-8", "replace"))
        else:
            self._run(step, step.source)

    def _write(self, step: Step, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != step.sha256:
            self.left_out.append(f"file {step.path}: what was written is masked in the record")
        elif (result := self._session.write_file(step.path, data)).state != "ok":
            self.left_out.append(f"file {step.path}: {result.reason}")

    def _run(self, step: Step, source: str) -> None:
        limit_s = max(LEAST_S, TIMES * step.took_s)
        if step.kind == SHELL:
            self.commands.append(
                (step, self._final(self._session.shell(source, timeout_s=limit_s)))
            )
        elif step.cell is None:
            self._final(self._session.run(source, hidden=step.kind == HIDDEN, timeout_s=limit_s))
        else:
            self.cells[step.cell] = self._final(self._cell(step.cell, source, limit_s))

    def _cell(self, cell: str, source: str, limit_s: float) -> Result:
        here = self._ids.get(cell)
        if here is None:
            result = self._session.run(source, timeout_s=limit_s)
            self._ids[cell] = str(result.cell)
        else:
            if source != self._sources[cell]:
                self._session.replace_cell(here, source)
            result = self._session.run_cell(here, timeout_s=limit_s)
        self._sources[cell] = source
        return result

    def _final(self, result: Result) -> Result:
        return result if result.final else self._session.interrupt(result.op)


def first_line(step: Step) -> str:
    """What a step is known by."""
    return step.path or next(iter((step.source or "").strip().splitlines()), "")[:80]


def _cells(path: Path, todo: list[Step], doing: _Doing, tolerance: float) -> Iterator[Compared]:
    """The cells of the notebook that ran, from top to bottom."""
    notebook = Notebook()
    for line in _lines(path / "journal.jsonl"):
        notebook.apply(line)
    last = {step.cell: step for step in todo if step.kind == CELL and step.state in _RAN}
    for cell in notebook.order():
        if cell not in last or cell not in doing.cells:
            continue
        step, result = last[cell], doing.cells[cell]
        before = notebook.cells[cell].outputs
        found = _ends(step, result) or difference(before, result.outputs, tolerance)
        yield Compared(CELL, first_line(step), found, step.took_s, result.elapsed_s or 0.0)


def _commands(doing: _Doing, done: list[Step], tolerance: float) -> Iterator[Compared]:
    here = {step.op: step for step in done}
    for step, result in doing.commands:
        later = here[result.op]
        found = _ends(step, result) or max(
            (
                text_difference(step.printed.get(name, ""), later.printed.get(name, ""), tolerance)
                for name in ("stdout", "stderr")
            ),
            key=lambda item: item.verdict,
        )
        yield Compared(SHELL, first_line(step), found, step.took_s, result.elapsed_s or 0.0)


def _ends(step: Step, result: Result) -> Difference | None:
    """That it ended otherwise, if it did."""
    if result.state == step.state:
        return None
    words = f"{step.state} → {result.state}"
    return Difference(Verdict.DIFFERS, f"{words}: {result.reason}" if result.reason else words)


def _files(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[Compared]:
    """The outputs, by their sums."""
    sums = {item["path"]: item["sha256"] for item in after}
    for item in before:
        found = Difference(Verdict.SAME)
        if item["path"] not in sums:
            found = Difference(Verdict.DIFFERS, "it was not made")
        elif sums[item["path"]] != item["sha256"]:
            found = Difference(Verdict.DIFFERS, "its content differs")
        yield Compared(FILE, f"outputs/{item['path']}", found)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [line for line, _ in read_lines(file)] if file.exists() else []
