"""Why a run waits in its queue: what Kueue says of its Workload, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
JOB_LABEL = "kueue.x-k8s.io/job-uid"
"""Of a Workload: the Job that it stands for."""

_NEVER = ("maximum capacity", "no flavor", "no matching flavor")
"""In Kueue's message for what can never be admitted; its reasons differ between versions."""


def words(queue: str, workload: Mapping[str, Any] | None, position: int | None) -> str:
    """Why the Job of this Workload is not let go; `position` counts from 0."""
    place = f"in the queue {queue}"
    if position is not None:
        place = f"{place}, {position} before it" if position else f"{place}, the next one"
    if workload is None:
        return place
    conditions = {item["type"]: item for item in workload["status"].get("conditions") or ()}
    reserved, evicted = conditions.get("QuotaReserved", {}), conditions.get("Evicted", {})
    if reserved.get("status") == "True":
        return f"{place}: it has its quota, and waits for an admission check"
    said = reserved.get("message") or ""
    if evicted.get("status") == "True":
        said = "; ".join(filter(None, [f"taken off its node: {evicted.get('message')}", said]))
    if any(never in said for never in _NEVER):
        return (
            f"{place}, and can never start as it is: {said}; ask for less (`runner cancel` ends "
            "it), or have an admin raise the quota"
        )
    return f"{place}: {said}" if said else place


def position_of(name: str, pending: Sequence[Mapping[str, Any]]) -> int | None:
    """Where a Workload stands among those that wait in its queue; None where it does not."""
    found = (item for item in pending if item["metadata"]["name"] == name)
    return next((int(item["positionInLocalQueue"]) for item in found), None)
