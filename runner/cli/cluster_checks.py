"""What `doctor` looks at on a cluster. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.cli.check import Check
from runner.cli.words import count
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.backend import KubernetesBackend
    from runner.backends.kubernetes.client import Client
    from runner.cluster import Cluster

LEAST_MINOR = 29
"""Of Kubernetes 1.x: native sidecars are on by default from 1.29."""


def cluster_checks(backend: KubernetesBackend) -> Iterator[Check]:
    """Every check; ends early where the next ones would only say the same again."""
    try:
        client = backend.client
        yield _version(client)
        cluster = backend.cluster
    except RunnerError as error:
        yield Check("cluster", False, error.message, error.hint)
        return
    words = f"namespace {client.namespace}, chart {cluster.chart_version or 'of unknown version'}"
    yield Check("chart", True, f"{words}, {count(len(cluster.images.catalogue), 'image')}")
    yield _rights(client, cluster)
    yield _nodes(client, cluster)
    yield from _storage(client, cluster)
    if cluster.queue.name:
        yield _queue(client, cluster.queue.name)
    yield from _leftovers(client)


def _version(client: Client) -> Check:
    from runner.backends.kubernetes.objects import version

    major, minor = version(client)
    words = f"Kubernetes {major}.{minor} at {client.access.server}"
    if (major, minor) < (1, LEAST_MINOR):
        mend = f"a cluster of 1.{LEAST_MINOR} or later: the sandbox is a native sidecar"
        return Check("cluster", False, words, mend)
    return Check("cluster", True, words)


def _rights(client: Client, cluster: Cluster) -> Check:
    """Whether the user may start runs and follow them."""
    from runner.backends.kubernetes.resolve import missing_rights

    if error := missing_rights(client, cluster):
        return Check("rights", False, error.message, error.hint)
    return Check("rights", True, "you may start runs and follow them")


def _nodes(client: Client, cluster: Cluster) -> Check:
    """Which GPU class each node serves; the labels that are there where none fits."""
    from runner.backends.kubernetes.objects import nodes

    try:
        found = nodes(client)
    except RunnerError:
        words = "nodes may not be read here, so what GPUs there are is not known"
        return Check("gpus", None, words, "helm upgrade … --set clusterRole.create=true")
    served: dict[str, list[str]] = {}
    strange: set[str] = set()
    for node in found:
        for name, gpu in cluster.gpu_classes.items():
            if node.labels.get(gpu.label) in gpu.values and node.allocatable.get(gpu.resource):
                number = node.allocatable[gpu.resource]
                served.setdefault(name, []).append(f"{number} on {node.name}")
        known = {value for gpu in cluster.gpu_classes.values() for value in gpu.values}
        labels = {gpu.label for gpu in cluster.gpu_classes.values()}
        strange |= {node.labels[key] for key in labels & set(node.labels)} - known
    if strange:
        one = sorted(strange)[0]
        mend = f"helm upgrade … --set 'gpuClasses.NAME.values={{{one}}}'"
        return Check("gpus", None, f"of no class in the chart: {', '.join(sorted(strange))}", mend)
    if not served:
        return Check("gpus", None, "none: experiments without `sandbox.gpu` run")
    words = "; ".join(f"{name}: {', '.join(at)}" for name, at in sorted(served.items()))
    lacking = ", ".join(sorted(set(cluster.gpu_classes) - set(served)))
    return Check("gpus", True, f"{words}; no node has {lacking}" if lacking else words)


def _storage(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Whether the claims of records and of the cache are there, and for how many nodes."""
    if cluster.records.s3:
        yield Check("records", True, f"in {cluster.records.s3.url}")
    claims = {"records": None if cluster.records.s3 else cluster.records.claim}
    for name, claim in {**claims, "cache": cluster.cache_claim}.items():
        if claim:
            yield _claim(client, name, claim)


def _claim(client: Client, name: str, claim: str) -> Check:
    look = f"kubectl describe pvc {claim} --namespace {client.namespace}"
    try:
        found = client.read("persistentvolumeclaims", claim)
    except RunnerError as error:
        return Check(name, False, error.message, look)
    phase, modes = found["status"].get("phase", "Pending"), found["spec"]["accessModes"]
    words = f"the claim {claim} is {phase}"
    if phase != "Bound":
        return Check(name, None, f"{words}; some storage is made for the first run only", look)
    if "ReadWriteMany" not in modes:
        mend = "a claim with ReadWriteMany, if the cluster has more than one node"
        return Check(name, None, f"{words}, for one node at a time ({', '.join(modes)})", mend)
    return Check(name, True, words)


def _queue(client: Client, name: str) -> Check:
    """Whether Kueue lets runs through the team's queue."""
    look = f"kubectl describe localqueue {name} --namespace {client.namespace}"
    try:
        status = client.read("localqueues", name).get("status") or {}
    except RunnerError as error:
        return Check("queue", False, error.message, look)
    for condition in status.get("conditions") or ():
        if condition["type"] == "Active" and condition["status"] != "True":
            return Check("queue", False, f"{name}: {condition.get('message')}", look)
    return Check("queue", True, f"{name}: {status.get('pendingWorkloads', 0)} runs wait in it")


def _leftovers(client: Client) -> Iterator[Check]:
    """Jobs whose `submit` or `cancel` was killed, and pods of clients that were."""
    from runner.backends.kubernetes.objects import STORES, snapshots
    from runner.backends.kubernetes.snapshot import CANCELLED, pod_of

    held = [
        snap.job
        for snap in snapshots(client).values()
        if snap.job and snap.job.suspended and not snap.job.queue and not snap.job.finished
    ]
    for job in held:
        what = "cancelled, and is still there" if CANCELLED in job.annotations else "never released"
        words = f"{job.run_id}: its Job was {what}; it holds no GPU"
        yield Check("leftovers", None, words, f"runner delete --backend kubernetes {job.run_id}")
    over = [pod.name for pod in map(pod_of, client.list("pods", labels=STORES)) if pod.over]
    if over:
        words = f"{count(len(over), 'pod')} that read records and ended"
        yield Check("leftovers", None, words, f"kubectl delete pod {' '.join(sorted(over))}")
    if not held and not over:
        yield Check("leftovers", True, "none")
