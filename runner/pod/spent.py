"""How much of a run's time its sandbox may still use, as its journal tells.

The journal and a mark beside it lie on the pod's volume, so that a server that was started
again in the pod goes on counting where the one before it began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.record.times import seconds

MARK = "begun.json"


def left_s(timeout_s: float, state: Path, now: datetime) -> float:
    """Seconds left of the run's time; `state` is the sandbox server's directory.

    Sandboxes of earlier pods count from their kernel's readiness to the last line about
    them; that of this pod from its kernel's first readiness to now.
    """
    mark, lines = state / MARK, _lines(state / "journal.jsonl")
    if not mark.exists():
        spent, last = earlier(lines)
        part = mark.with_suffix(".part")
        part.write_text(json.dumps({"left_s": timeout_s - spent, "lines": last}))
        part.replace(mark)
        return timeout_s - spent
    begun = json.loads(mark.read_text())
    ready = next(
        (_time(line) for line in lines if line["seq"] > begun["lines"] and _ready(line)), now
    )
    return float(begun["left_s"]) - seconds(ready, now)


def earlier(lines: Iterable[Mapping[str, Any]]) -> tuple[float, int]:
    """Seconds that the boots of these journal lines had a kernel, and the last line's number."""
    spent, last, boot, ready = 0.0, 0, "", False
    before: datetime | None = None
    for line in lines:
        if line["boot"] != boot:
            boot, ready = line["boot"], False
        if ready:
            spent += seconds(before, _time(line))
        ready = ready or _ready(line)
        before, last = _time(line), line["seq"]
    return spent, last


def _ready(line: Mapping[str, Any]) -> bool:
    return line["type"] == "kernel" and line.get("event") == "started"


def _time(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["time"])


def _lines(journal: Path) -> Iterator[Mapping[str, Any]]:
    if not journal.exists():
        return
    with journal.open() as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)
