"""A short-lived pod through which a client reaches a run's record on a claim."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.backends.kubernetes.snapshot import Pod, event_of, pod_of
from runner.errors import InfrastructureError, RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.cluster import Cluster

CONTAINER = "store"
START_S = 120.0
LONGEST_S = 3600
"""How long one lives at most; it ends by itself before, when nobody uses it."""
LOOK_S = 0.15


@contextlib.contextmanager
def opened(
    client: Client, cluster: Cluster, run_id: str, start_s: float = START_S
) -> Iterator[str]:
    """The name of a pod that has the run's directory of the claim; it is removed afterwards.

    Raises InfrastructureError, in words, where it does not start in time.
    """
    from runner.backends.kubernetes import manifests

    name = f"{run_id}-store-{secrets.token_hex(2)}"
    client.create("pods", manifests.store_pod(run_id, cluster, name=name, seconds=LONGEST_S))
    try:
        _wait(client, name, start_s)
        yield name
    finally:
        with contextlib.suppress(RunnerError):  # it ends by itself as well
            client.delete("pods", name, grace_s=0)


def _wait(client: Client, name: str, start_s: float) -> None:
    end = time.monotonic() + start_s
    while True:
        pod = pod_of(client.read("pods", name))
        container = pod.container(CONTAINER)
        if container is not None and container.state == "running":
            return
        if pod.over or time.monotonic() >= end:
            raise InfrastructureError(
                f"the record's store could not be reached: {why(client, pod)}",
                hint="`kubectl get events` has more; records are on the claim that the chart "
                "makes or names (records.claim)",
            )
        time.sleep(LOOK_S)


def why(client: Client, pod: Pod) -> str:
    """What kept a pod from starting, in the cluster's own words."""
    told = [pod.message, pod.unscheduled]
    told += [f"{one.reason} {one.message}".strip() for one in pod.containers]
    with contextlib.suppress(RunnerError):
        events = client.list("events", fields=f"involvedObject.name={pod.name}")
        warnings = [event_of(item) for item in events if item.get("type") == "Warning"]
        told += [warning.message for warning in warnings[-2:]]
    words = "; ".join(dict.fromkeys(part for part in told if part))
    on = f" on the node {pod.node}" if pod.node else ""
    state = f"its pod {pod.name} is {pod.phase}{on}"
    return f"{state}: {words[:600]}" if words else f"{state} after {START_S:g} s"
