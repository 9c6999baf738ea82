"""What the API server says of a run, read once into small frozen values. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from runner.backends.base import Cause
from runner.backends.kubernetes import fits
from runner.backends.kubernetes.kueue import QUEUE_LABEL

SIDECAR = "Always"
CANCELLED = "runner/cancelled"
"""Annotation of a Job that was cancelled while its agent could not be told, with the words."""


@dataclass(frozen=True)
class Container:
    """One container of a pod.

    `state` is waiting, running or terminated; `reason` and `message` are the
    kubelet's words for it. Times are ISO 8601 in UTC, to the second. `last`
    says how the container ended before its last restart. `memory` is its limit.
    """

    name: str
    kind: Literal["init", "sidecar", "main"]
    image: str
    state: str
    reason: str = ""
    message: str = ""
    started: str | None = None
    finished: str | None = None
    exit_code: int | None = None
    restarts: int = 0
    last: str = ""
    memory: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it ended, and well."""
        return self.state == "terminated" and self.exit_code == 0


@dataclass(frozen=True)
class Pod:
    """The last pod of a Job. `unscheduled` is why it has no node, in the scheduler's words.

    `grace_s` is how long it has to leave when it is told to. `selects` are the node labels it
    asks for, each with the values that will do; `requests` what it asks of a node, `claims`
    the claims that it mounts. `ready` says whether all its containers run, on a node
    that answers. `deleting` is when it was told to leave.
    """

    name: str
    uid: str
    phase: str
    created: str
    reason: str = ""
    message: str = ""
    node: str = ""
    scheduled: str | None = None
    unscheduled: str = ""
    disrupted: str = ""
    deleting: str | None = None
    grace_s: float = 30.0
    ready: bool = False
    selects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    requests: Mapping[str, Decimal] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()
    claims: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()

    def container(self, name: str) -> Container | None:
        """The container of this name, if the pod has one."""
        return next((item for item in self.containers if item.name == name), None)

    @property
    def silent(self) -> bool:
        """Whether its node does not answer: the control plane says then that it is not ready."""
        run = all(item.state == "running" for item in self.containers if item.kind != "init")
        return self.phase == "Running" and run and not self.ready

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Job:
    """One Job of a run; `finished` is "", "Complete" or "Failed", with `reason` and `message`.

    `number` counts the Jobs of the run.
    """

    name: str
    uid: str
    run_id: str
    number: int
    created: str
    suspended: bool
    finished: str = ""
    reason: str = ""
    message: str = ""
    ended: str | None = None
    queue: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that the cluster noted about the pod or the Job."""

    time: str
    type: str
    reason: str
    message: str
    about: str


@dataclass(frozen=True)
class Node:
    """A node, as far as runs ask for it; `unready` is why it is not ready, and `since` when."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]
    unschedulable: bool = False
    taints: tuple[Mapping[str, str], ...] = ()
    unready: str = ""
    since: str | None = None


@dataclass(frozen=True)
class Claim:
    """A claim that the pod mounts; `message` is why it has no volume, as an event says."""

    name: str
    phase: str
    storage_class: str = ""
    message: str = ""


@dataclass(frozen=True)
class Snapshot:
    """How the last Job of a run stands.

    `queue` is why its queue has not let it go. `nodes` is None where they may not be read. `pulls`
    are the events of images that were pulled in this namespace.
    """

    job: Job | None = None
    pod: Pod | None = None
    events: tuple[Event, ...] = ()
    queue: Cause | None = None
    nodes: tuple[Node, ...] | None = None
    claims: tuple[Claim, ...] = ()
    pulls: tuple[Event, ...] = ()

    @property
    def node(self) -> Node | None:
        """The node that the pod is on, if it is known."""
        on = self.pod.node if self.pod else ""
        return next((node for node in self.nodes or () if node.name == on), None)

    @property
    def alive(self) -> bool:
        """Whether it goes on, or will once it is let: neither ended nor held back by us."""
        if self.job is None or self.job.finished or CANCELLED in self.job.annotations:
            return False
        return not self.job.suspended or bool(self.job.queue)


def job_of(data: Mapping[str, Any]) -> Job:
    """A Job as the API gives it."""
    meta, spec, status = data["metadata"], data["spec"], data.get("status") or {}
    labels = meta.get("labels") or {}
    ended = [
        item
        for item in status.get("conditions") or []
        if item["type"] in ("Complete", "Failed") and item["status"] == "True"
    ]
    end = ended[0] if ended else {}
    return Job(
        name=meta["name"],
        uid=meta["uid"],
        run_id=labels.get("runner/run", ""),
        number=int(labels.get("runner/attempt", "0")),
        created=meta["creationTimestamp"],
        suspended=bool(spec.get("suspend")),
        finished=end.get("type", ""),
        reason=end.get("reason") or "",
        message=end.get("message") or "",
        ended=end.get("lastTransitionTime"),
        queue=labels.get(QUEUE_LABEL, ""),
        labels=labels,
        annotations=meta.get("annotations") or {},
    )


def pod_of(data: Mapping[str, Any]) -> Pod:
    """A pod as the API gives it."""
    meta, spec, status = data["metadata"], data["spec"], data.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    disrupted = conditions.get("DisruptionTarget") or {}
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        phase=status.get("phase", "Pending"),
        created=meta["creationTimestamp"],
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        node=spec.get("nodeName") or "",
        scheduled=scheduled.get("lastTransitionTime")
        if scheduled.get("status") == "True"
        else None,
        unscheduled=(scheduled.get("message") or "") if scheduled.get("status") == "False" else "",
        disrupted=(disrupted.get("message") or "") if disrupted.get("status") == "True" else "",
        deleting=_told_to_leave(meta),
        grace_s=float(spec.get("terminationGracePeriodSeconds", 30)),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        selects=_selects(spec),
        requests=fits.total(spec, "requests"),
        tolerations=tuple(spec.get("tolerations") or ()),
        claims=tuple(
            volume["persistentVolumeClaim"]["claimName"]
            for volume in spec.get("volumes") or ()
            if "persistentVolumeClaim" in volume
        ),
        containers=tuple(_containers(spec, status)),
    )


def event_of(data: Mapping[str, Any]) -> Event:
    """An event as the API gives it."""
    about = data.get("involvedObject") or {}
    return Event(
        time=data.get("lastTimestamp") or data.get("eventTime") or "",
        type=data.get("type") or "",
        reason=data.get("reason") or "",
        message=data.get("message") or "",
        about=about.get("name") or "",
    )


def node_of(data: Mapping[str, Any]) -> Node:
    """A node as the API gives it."""
    meta, status = data["metadata"], data.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    unready = "" if ready.get("status") == "True" else ready.get("message") or "it never was ready"
    return Node(
        name=meta["name"],
        labels=meta.get("labels") or {},
        allocatable=status.get("allocatable") or {},
        unschedulable=bool(data["spec"].get("unschedulable")),
        taints=tuple(data["spec"].get("taints") or ()),
        unready=unready,
        since=ready.get("lastTransitionTime"),
    )


def last(jobs: Iterable[Job], pods: Iterable[tuple[str, Pod]]) -> dict[str, Snapshot]:
    """The last Job of each run with its last pod; `pods` come with the names of their Jobs."""
    latest: dict[str, Job] = {}
    for job in jobs:
        if job.run_id and (job.run_id not in latest or latest[job.run_id].number < job.number):
            latest[job.run_id] = job
    of_job: dict[str, Pod] = {}
    for name, pod in pods:
        if name not in of_job or of_job[name].created <= pod.created:
            of_job[name] = pod
    return {run_id: Snapshot(job, of_job.get(job.name)) for run_id, job in latest.items()}


def termination(container: Container | None) -> dict[str, Any]:
    """What the agent wrote as its last words; empty where it wrote none."""
    if container is None or container.state != "terminated":
        return {}
    try:
        said = json.loads(container.message)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and "state" in said else {}


def _told_to_leave(meta: Mapping[str, Any]) -> str | None:
    """The API has the time by which it is to be gone."""
    if "deletionTimestamp" not in meta:
        return None
    grace = timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    told = datetime.fromisoformat(meta["deletionTimestamp"]) - grace
    return told.isoformat().replace("+00:00", "Z")


def _selects(spec: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    found: dict[str, tuple[str, ...]] = {
        key: (value,) for key, value in (spec.get("nodeSelector") or {}).items()
    }
    for term in required.get("nodeSelectorTerms") or ():
        for rule in term.get("matchExpressions") or ():
            values = (*found.get(rule["key"], ()), *rule.get("values", ()))
            found[rule["key"]] = tuple(dict.fromkeys(values))
    return found


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Iterable[Container]:
    states = {
        item["name"]: item
        for key in ("initContainerStatuses", "containerStatuses")
        for item in status.get(key) or []
    }
    for item in spec.get("initContainers") or []:
        kind: Literal["init", "sidecar"] = (
            "sidecar" if item.get("restartPolicy") == SIDECAR else "init"
        )
        yield _container(item, kind, states.get(item["name"]) or {})
    for item in spec["containers"]:
        yield _container(item, "main", states.get(item["name"]) or {})


def _container(
    spec: Mapping[str, Any], kind: Literal["init", "sidecar", "main"], status: Mapping[str, Any]
) -> Container:
    name, now = next(iter((status.get("state") or {"waiting": {}}).items()))
    before: dict[str, Any] = next(iter((status.get("lastState") or {}).values()), {})
    return Container(
        name=spec["name"],
        kind=kind,
        image=spec.get("image", ""),
        state=name,
        reason=now.get("reason") or "",
        message=now.get("message") or "",
        started=now.get("startedAt"),
        finished=now.get("finishedAt"),
        exit_code=now.get("exitCode"),
        restarts=status.get("restartCount", 0),
        last=f"{before.get('reason', '')} (exit status {before.get('exitCode')})" if before else "",
        memory=((spec.get("resources") or {}).get("limits") or {}).get("memory", ""),
    )
