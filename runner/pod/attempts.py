"""Whether this pod's agent goes on with the run, and why, from what earlier pods wrote. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_PODS = 10
"""Pods that one Job may use up: Kubernetes itself would go on replacing them for ever."""


@dataclass(frozen=True)
class Begin:
    """What this pod has to do with the run.

    `over` is the exit status of a run that ended before its pod did; `refusal` says why
    it must not go on.
    """

    reason: str
    over: int | None = None
    refusal: str = ""


def begin(
    lines: Iterable[Mapping[str, Any]],
    job: str,
    pod_uid: str,
    reason: str,
    *,
    on_disruption: str | None,
) -> Begin:
    """Look at a transcript with the eyes of this pod, which Job `job` made for `reason`."""
    pods: dict[str, str] = {}  # of this Job, before this one: uid to name
    ended: Mapping[str, Any] | None = None
    for line in lines:
        if line["type"] == "attempt":
            ended = None
            if line.get("job") == job and line.get("pod_uid") != pod_uid:
                pods[str(line.get("pod_uid"))] = str(line.get("pod"))
        elif line["type"] == "end":
            ended = line
    if not pods:
        return Begin(reason)
    last = list(pods.values())[-1]
    if ended and ended["state"] != "interrupted":
        return Begin("", over=ended["exit_status"])
    reason = f"pod {last} is gone; this one goes on"
    if on_disruption == "fail":
        return Begin(reason, refusal=f'pod {last} is gone, and on_disruption is "fail"')
    if len(pods) >= MOST_PODS:
        words = f"{len(pods)} pods of it are gone, {last} the last of them, and no more are tried"
        return Begin(reason, refusal=f"{words}; `runner resume` goes on from the record")
    return Begin(reason)
