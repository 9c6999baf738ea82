"""The agent's last words: one line of JSON, which `kubectl describe pod` and clients read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.pod import layout, step
from runner.record import Record
from runner.record.chain import mark

MOST_BYTES = 4096
"""The kubelet cuts off what is after them."""


def message(record: Path, exit_status: int, trouble: str = "") -> str:
    """How the run in `record` stands; `trouble` is what kept its end from being written there."""
    try:
        run = Record.open(record).state()
    except RunnerError as error:
        run, trouble = None, trouble or str(error)
    said: dict[str, Any] = {
        "state": run.state if run else "failed",
        "reason": "; ".join(filter(None, [run.reason if run else "", trouble])),
        "exit_status": exit_status,
        "transcript": mark(record / "transcript.jsonl"),
        "journal": run.journal if run else mark(record / "journal.jsonl"),
        "turns": run.turns if run else 0,
        "tokens": sum(run.tokens.values()) if run else 0,
        "cost_usd": run.cost_usd if run else None,
    }
    return fitting(said)


def fitting(said: dict[str, Any]) -> str:
    """The JSON, its `reason` cut until it fits."""
    line = json.dumps(said)
    while len(line) > MOST_BYTES and said["reason"] != "…":
        keep = len(said["reason"]) - max((len(line) - MOST_BYTES) // 6, 2)
        said = {**said, "reason": said["reason"][: max(keep, 0)].rstrip("…") + "…"}
        line = json.dumps(said)
    return line


def write(line: str, path: Path = layout.TERMINATION) -> None:
    """Leave it, in one write: the kubelet may look at any time."""
    try:
        path.write_bytes(line.encode())
    except OSError as error:
        step.say(f"{path}: {error.strerror}; it would have said {line}")
