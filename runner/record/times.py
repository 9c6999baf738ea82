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
    spent = 0.0
    boot: str | None = None
    since: datetime | None = None  # the sandbox `boot` was ready
    last: datetime | None = None  # something was heard of it
    attached = True
    for line in lines:
        time, kind = datetime.fromisoformat(line["time"]), line["type"]
        if kind == "attempt":
            attached = False
        elif kind == "sandbox":
            if line["boot"] != boot and not attached:
                spent += _seconds(since, last)
                since = None
            # Where the same agent meets another boot, the server was started again below it.
            boot, attached = line["boot"], True
        elif kind == "state" and line["state"] == "running":
            since = since or time
        if attached:
            last = time
    return spent + _seconds(since, last)


def _seconds(since: datetime | None, until: datetime | None) -> float:
    return (until - since).total_seconds() if since and until else 0.0
