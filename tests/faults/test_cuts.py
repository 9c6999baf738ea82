"""Files that end within a line, as a machine that failed leaves them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from invariants import check, counted
from tiny_runs import Lab, Run, cell, end, held, until
from victims import strike

STEPS = [
    cell(counted("a", 3)),
    # What is held prints more than its turn's begin: no line of the transcript speaks of that.
    cell(counted("b", 20, after=held())),
    cell(counted("c", 1)),
    end("c 0"),
]


def longer(*cases: str) -> list[Any]:
    """Cases for the longer forms."""
    return [pytest.param(case, marks=pytest.mark.long) for case in cases]


def interrupted(lab: Lab) -> Run:
    """A run whose agent is dead, in the middle of its second cell."""
    run = lab.submit(STEPS)
    until(lambda: "b 19" in str(run.journal()), "the second cell has printed")
    run.kill_agent()
    return run


def cut(file: Path, before: int = 0) -> None:
    """End a file in the middle of its last line, or of an earlier one."""
    lines = file.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[: -1 - before])
    os.truncate(file, len(whole) + len(lines[-1 - before]) // 2)


def last(run: Run, kind: str) -> int:
    """How many lines the transcript has after its last one of a type."""
    kinds = [line["type"] for line in run.lines()]
    return kinds[::-1].index(kind)


@pytest.mark.parametrize("kind", ["message", *longer("tool_result", "state")])
def test_a_transcript_that_ends_within_a_line(lab: Lab, kind: str) -> None:
    run = interrupted(lab)
    cut(run.path / "transcript.jsonl", last(run, kind))
    assert run.status.state == "interrupted"
    run.resume()
    run.let_go()
    assert run.over().state == "done"
    assert (run.path / "transcript.jsonl.torn").exists()
    check(run.path, run.root)
    assert {line["state"] for line in run.journal() if line["type"] == "end"} == {"ok"}


@pytest.mark.parametrize("which", ["both", *longer("record", "sandbox")])
def test_a_journal_that_ends_within_a_line(lab: Lab, which: str) -> None:
    run = interrupted(lab)
    strike(run, "sandbox", signal.SIGKILL)
    until(lambda: not run.status.sandbox_alive, "the sandbox is gone")
    if which in ("record", "both"):
        cut(run.path / "journal.jsonl")
    if which in ("sandbox", "both"):
        cut(run.root / "server" / "journal.jsonl", before=2)
    run.resume()
    assert run.over().state == "done"
    check(run.path, run.root)
    assert any("lost" in text for text in run.results())
