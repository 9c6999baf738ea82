"""How much of its time a run has used, from its transcript. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any


def spent_s(lines: Iterable[Mapping[str, Any]]) -> float:
    """Seconds in which the run was running, over all its attempts.

    An attempt that was killed counts up to its last line; the time until the
    next attempt took over counts for nobody.
    """
    spent, since, last = 0.0, None, None
    for line in lines:
        time = datetime.fromisoformat(line["time"])
        if line["type"] == "attempt" and since is not None and last is not None:
            spent, since = spent + (last - since).total_seconds(), None
        if line["type"] == "state" and line["state"] == "running":
            since = time
        if line["type"] == "end" and since is not None:
            spent, since = spent + (time - since).total_seconds(), None
        last = time
    if since is not None and last is not None:
        spent += (last - since).total_seconds()
    return spent
