"""The objects of runs, as the API server has them: make, look at, change, remove."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.backends.base import Cause
from runner.backends.kubernetes import kueue
from runner.backends.kubernetes.resources import PENDING
from runner.backends.kubernetes.snapshot import (
    Claim,
    Event,
    Job,
    Node,
    Pod,
    Snapshot,
    event_of,
    job_of,
    last,
    node_of,
    pod_of,
)
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
    """How the last Job of a run stands; with what may hold it up, while all is not well.

    That may be kept from the user, or fail: the run stands as it does all the same.
    """
    found = snapshots(client, _of(run_id)).get(run_id, Snapshot())
    job, pod = found.job, found.pod
    if job is None or job.finished or (pod and (pod.over or _well(pod))):
        return found
    about = pod.name if pod else job.name
    queue, events, nodes, claims = together(
        lambda: _queued(client, job) if job.suspended and job.queue else None,
        lambda: _events(client, f"involvedObject.name={about}"),
        lambda: _nodes(client) if pod else None,
        lambda: _claims(client, pod) if pod and "PersistentVolumeClaim" in pod.unscheduled else (),
    )
    pulling = bool(events) and max(events, key=lambda event: event.time).reason == "Pulling"
    pulls = _events(client, "reason=Pulled") if pulling else ()
    return replace(found, events=events, queue=queue, nodes=nodes, claims=claims, pulls=pulls)


def _well(pod: Pod) -> bool:
    """Whether nothing has to be told of a pod that runs."""
    restarted = any(item.restarts for item in pod.containers)
    return pod.phase == "Running" and pod.ready and not pod.deleting and not restarted


def _events(client: Client, fields: str) -> tuple[Event, ...]:
    with contextlib.suppress(RunnerError):
        return tuple(event_of(item) for item in client.list("events", fields=fields))
    return ()


def _nodes(client: Client) -> tuple[Node, ...] | None:
    """None where they may not be read: the chart's ClusterRole is not installed."""
    with contextlib.suppress(RunnerError):
        return tuple(node_of(item) for item in client.list("nodes"))
    return None


def _claims(client: Client, pod: Pod) -> tuple[Claim, ...]:
    """The pod's claims, with what their last warning says where they have no volume."""
    found = []
    with contextlib.suppress(RunnerError):
        for name in pod.claims:
            data = client.read("persistentvolumeclaims", name)
            phase = data["status"].get("phase", "Pending")
            told = _events(client, f"involvedObject.name={name}") if phase != "Bound" else ()
            message = max(told, key=lambda event: event.time).message if told else ""
            storage = data["spec"].get("storageClassName") or ""
            found.append(Claim(name, phase, storage, message))
    return tuple(found)


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


def _queued(client: Client, job: Job) -> Cause | None:
    """Why Kueue has not let a Job go; None where that may not be read."""
    with contextlib.suppress(RunnerError):
        workloads = client.list("workloads", labels=f"{kueue.JOB_LABEL}={job.uid}")
        if not workloads:
            return kueue.cause(job.queue, None, None)
        position = None
        with contextlib.suppress(RunnerError):  # Kueue's visibility API is an extra of its own
            path = PENDING.format(client.namespace, job.queue)
            waiting = client.request("GET", path, what=f"look at the queue {job.queue}")
            name = workloads[0]["metadata"]["name"]
            position = kueue.position_of(name, waiting.get("items") or ())
        return kueue.cause(job.queue, workloads[0], position)
    return None


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


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Do calls at the same time; the results in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def _of(run_id: str) -> str:
    return f"runner/run={run_id}"
