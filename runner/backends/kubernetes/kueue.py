"""Why a run waits in its queue: what Kueue says of its Workload, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.backends.base import Cause

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
JOB_LABEL = "kueue.x-k8s.io/job-uid"
"""Of a Workload: the Job that it stands for."""

_NEVER = ("maximum capacity", "no flavor", "no matching flavor")
"""In Kueue's message for what can never be admitted; its reasons differ between versions."""
_STOPPED = ("inactive", "stopped", "doesn't exist")
_OPEN = (
    "it starts by itself when the queue is open: `kubectl describe localqueue` says what is wrong "
    "with it, and an admin sets stopPolicy of the ClusterQueue to None"
)


def cause(queue: str, workload: Mapping[str, Any] | None, position: int | None) -> Cause:
    """Why the Job of this Workload is not let go; `position` counts from 0."""
    place = f"in the queue {queue}"
    if position is not None:
        place = f"{place}, {position} before it" if position else f"{place}, the next one"
    if workload is None:
        return Cause(place)
    conditions = {item["type"]: item for item in workload["status"].get("conditions") or ()}
    reserved, evicted = conditions.get("QuotaReserved", {}), conditions.get("Evicted", {})
    since = reserved.get("lastTransitionTime")
    if reserved.get("status") == "True":
        words = f"{place}: it has its quota, and waits for an admission check"
        look = "`kubectl describe workload` shows which one; an admin knows what it waits for"
        return Cause(words, look, since)
    said = reserved.get("message") or ""
    if evicted.get("status") == "True":
        said = "; ".join(filter(None, [f"taken off its node: {evicted.get('message')}", said]))
        since = evicted.get("lastTransitionTime")
    if any(never in said for never in _NEVER):
        words = f"{place}, and can never start as it is: {said}"
        return Cause(words, "cancel it and ask for less, or have an admin raise the quota", since)
    if any(held in said for held in _STOPPED):
        return Cause(f"{place}: {said}", _OPEN, since)
    waits = "it starts by itself when a run before it ends" if said else ""
    return Cause(f"{place}: {said}" if said else place, waits, since)


def position_of(name: str, pending: Sequence[Mapping[str, Any]]) -> int | None:
    """Where a Workload stands among those that wait in its queue; None where it does not."""
    found = (item for item in pending if item["metadata"]["name"] == name)
    return next((int(item["positionInLocalQueue"]) for item in found), None)
