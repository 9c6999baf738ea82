"""How much of its time a run has used, from its transcript. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any


def spent_s(lines: Iterable[Mapping[str, Any]]) -> float:
    """Seconds in which the run had a sandbox that was ready, over all its sandboxes.

    While an agent was dead its sandbox's time went on, and what ran there
    with it: that counts if the next agent found the same sandbox. With
    another sandbox, the earlier one counts up to the last line about it.
    """
    spent = away = 0.0
    boot: str | None = None
    before: datetime | None = None
    attached, ready = True, False
    for line in lines:
        time, kind = datetime.fromisoformat(line["time"]), line["type"]
        step = seconds(before, time) if ready else 0.0
        before = time
        if kind == "attempt":
            attached = False
        if attached:
            spent += step
        else:
            away += step
        if kind == "sandbox":
            if line["boot"] == boot:
                spent += away
            elif not attached:
                ready = False
            # Where the same agent meets another boot, the server was started again below it.
            boot, attached, away = line["boot"], True, 0.0
        elif kind == "state" and line["state"] == "running":
            ready = True
    return spent


def seconds(since: datetime | None, until: datetime | None) -> float:
    """Seconds from one line to a later one; none where the clock was set back in between."""
    return max((until - since).total_seconds(), 0.0) if since and until else 0.0
