"""The objects of runs, as the API server has them: make, look at, change, remove."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.backends.kubernetes import kueue
from runner.backends.kubernetes.resources import PENDING
from runner.backends.kubernetes.snapshot import Job, Snapshot, event_of, job_of, last, pod_of
from runner.errors import InfrastructureError, RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client

OURS = "app.kubernetes.io/name=runner"
RUNS, STORES = (
    f"{OURS},app.kubernetes.io/component=run",
    f"{OURS},app.kubernetes.io/component=store",
)
JOB_NAME = "batch.kubernetes.io/job-name"


def create_owned(
    client: Client, *, secret: Mapping[str, Any], config_map: Mapping[str, Any]
) -> None:
    """Make what a Job's pod needs, at once."""
    together(
        lambda: client.create("secrets", secret), lambda: client.create("configmaps", config_map)
    )


def delete_run(client: Client, run_id: str) -> None:
    """Remove every Job of a run with all that it owns, and the pods that read its record."""
    for job in client.list("jobs", labels=f"{RUNS},{_of(run_id)}"):
        client.delete("jobs", job["metadata"]["name"])
    client.delete_all("pods", labels=f"{STORES},{_of(run_id)}", grace_s=0)


def end_pods(client: Client, run_id: str, grace_s: int) -> None:
    """Have the pods of a run end within this time, whatever they are at."""
    client.delete_all("pods", labels=f"{RUNS},{_of(run_id)}", grace_s=grace_s)


def snapshot(client: Client, run_id: str) -> Snapshot:
    """How the last Job of a run stands; with what it waits for while its pod does not run yet.

    That may be kept from the user, or fail: the run stands as it does all the same.
    """
    found = snapshots(client, _of(run_id)).get(run_id, Snapshot())
    running = found.pod is not None and found.pod.phase == "Running"
    if found.job is None or found.job.finished or running:
        return found
    queued, events = "", []
    with contextlib.suppress(RunnerError):
        if found.job.suspended and found.job.queue:
            queued = _queued(client, found.job)
        about = found.pod.name if found.pod else found.job.name
        events = client.list("events", fields=f"involvedObject.name={about}")
    return Snapshot(found.job, found.pod, tuple(event_of(item) for item in events), queued)


def snapshots(client: Client, selector: str = "") -> dict[str, Snapshot]:
    """How every run stands that has a Job; two calls for all of them."""
    labels = f"{RUNS},{selector}" if selector else RUNS
    jobs, pods = together(
        lambda: client.list("jobs", labels=labels), lambda: client.list("pods", labels=labels)
    )
    return last(
        (job_of(item) for item in jobs),
        ((item["metadata"]["labels"].get(JOB_NAME, ""), pod_of(item)) for item in pods),
    )


def _queued(client: Client, job: Job) -> str:
    """Why Kueue has not let a Job go."""
    workloads = client.list("workloads", labels=f"{kueue.JOB_LABEL}={job.uid}")
    if not workloads:
        return kueue.words(job.queue, None, None)
    position = None
    with contextlib.suppress(RunnerError):  # Kueue's visibility API is an extra of its own
        path = PENDING.format(client.namespace, job.queue)
        pending = client.request("GET", path, what=f"look at the queue {job.queue}")
        position = kueue.position_of(workloads[0]["metadata"]["name"], pending.get("items") or ())
    return kueue.words(job.queue, workloads[0], position)


def token(client: Client, job: str) -> str:
    """The token of a Job's sandbox server. Raises InfrastructureError where it is gone."""
    found = (client.read("secrets", job).get("data") or {}).get("token")
    if not found:
        raise InfrastructureError(f"the Secret {job} has no key `token`")
    return base64.b64decode(found).decode()


def version(client: Client) -> tuple[int, int]:
    """Major and minor version of the API server."""
    data = client.request("GET", "/version", what="ask for the server's version")
    return int(data["major"]), int(re.sub(r"\D.*", "", data["minor"]))


@dataclass(frozen=True)
class Node:
    """A node, as far as runs ask for it."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]


def nodes(client: Client) -> list[Node]:
    """The nodes; refused where the chart's ClusterRole is not installed."""
    return [
        Node(
            item["metadata"]["name"],
            item["metadata"].get("labels") or {},
            (item.get("status") or {}).get("allocatable") or {},
        )
        for item in client.list("nodes")
    ]


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Do calls at the same time; the results in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def _of(run_id: str) -> str:
    return f"runner/run={run_id}"
