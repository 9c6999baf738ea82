"""What `doctor` says of a cluster's room: GPUs, quotas, the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.cli.check import Check
from runner.cli.words import count
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.kubernetes.gpus import GpuNode
    from runner.cluster import Cluster

READ_NODES = "clusterRole.create=true"
READ_PODS = "clusterRole.pods=true"
GOING = "status.phase!=Succeeded,status.phase!=Failed"


def gpus(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Which GPU class each node serves, and how many are free."""
    from runner.backends.kubernetes import helm
    from runner.backends.kubernetes.gpus import gpu_nodes
    from runner.backends.kubernetes.translate import Forbidden

    try:
        nodes = client.list("nodes")
    except Forbidden:
        words = "nodes may not be read here, so what GPUs there are is not known"
        yield Check("gpus", None, words, helm.upgrade(client.namespace, READ_NODES))
        return
    try:
        pods = client.list("pods", fields=GOING, everywhere=True)
    except Forbidden:
        pods = None
    found = list(gpu_nodes(nodes, pods, cluster.gpu_classes))
    if not found:
        yield Check("gpus", None, "none: experiments without `sandbox.gpu` run")
        return
    yield from of_classes(found, cluster)
    for node in found:
        yield from unused(node, cluster, client.namespace)
    if pods is None:
        words = "how many are free is not known, as pods of others may not be listed"
        mend = f"docs/security.md says what it shows: {helm.upgrade(client.namespace, READ_PODS)}"
        yield Check("free gpus", None, words, mend)


def of_classes(found: list[GpuNode], cluster: Cluster) -> Iterator[Check]:
    """What there is of each product, and which classes it serves."""
    served: dict[str, list[str]] = {}
    for node in found:
        if node.classes:
            total = str(node.total) if node.free is None else f"{node.free} of {node.total} free"
            product = f"{', '.join(node.labels.values())} ({', '.join(node.classes)})"
            served.setdefault(product, []).append(f"{total} on {node.name}")
    if served:
        words = "; ".join(f"{product}: {', '.join(at)}" for product, at in sorted(served.items()))
        lacking = set(cluster.gpu_classes).difference(*(node.classes for node in found))
        also = f"; no node has {', '.join(sorted(lacking))}" if lacking else ""
        yield Check("gpus", True, f"{words}{also}")


def unused(node: GpuNode, cluster: Cluster, namespace: str) -> Iterator[Check]:
    """Why no run gets the GPUs of a node."""
    from runner.backends.kubernetes import helm

    if not node.classes and node.labels:
        label, value = next(iter(node.labels.items()))
        own = "" if label == "nvidia.com/gpu.product" else f",gpuClasses.NAME.label={label}"
        mend = helm.upgrade(namespace, f"gpuClasses.NAME.values={{{value}}}{own}")
        words = f"{node.name} has {node.total} of no class in the chart: {label}={value}"
        yield Check("gpus", None, words, mend)
    elif not node.classes:
        label = next(iter(cluster.gpu_classes.values())).label
        words = f"{node.name} has {node.total} and no label {label}, which classes go by"
        mend = f"install GPU feature discovery, or: kubectl label node {node.name} {label}=PRODUCT"
        yield Check("gpus", None, words, mend)
    if node.closed:
        mends = {
            "it is cordoned": f"kubectl uncordon {node.name}",
            "it is not ready": f"kubectl describe node {node.name}",
        }
        name = next(iter(node.classes), "NAME")
        stand = f"tolerations of the class in the chart's values: gpuClasses.{name}.tolerations"
        words = f"no run gets onto {node.name}: {node.closed}"
        yield Check("gpus", None, words, mends.get(node.closed, stand))


def bounds(client: Client, cluster: Cluster) -> Iterator[Check]:
    """What is used of each quota, and whether a run without a GPU still fits."""
    from runner.backends.kubernetes import fits, helm

    quotas, limits = client.list("resourcequotas"), client.list("limitranges")
    if not quotas and not limits:
        yield Check("quota", True, "none in this namespace")
        return
    pod = fits.with_defaults(_pod(cluster), limits)
    never = [*fits.quota_problems(pod, quotas), *fits.range_problems(pod, limits)]
    for words, _ in dict.fromkeys(never):
        mend = helm.upgrade(client.namespace, "quota.RESOURCE=MORE")
        yield Check("quota", False, f"{words}; by its defaults no run can start", mend)
    for quota in quotas:
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        words = ", ".join(f"{used.get(key, '0')} of {most} {key}" for key, most in hard.items())
        full = [key for key in hard if _full(pod, key, hard[key], used.get(key, "0"))]
        if full and not never:
            mend = "wait for runs to end (runner list), or an admin raises it: " + helm.upgrade(
                client.namespace, f"quota.{full[0].replace('.', chr(92) + '.')}=MORE"
            )
            words = f"{name} has no room for one more run ({', '.join(full)}): {words}"
            yield Check("quota", None, words, mend)
        else:
            yield Check("quota", True, f"{name}: {words} in use")


def _pod(cluster: Cluster) -> dict[str, Any]:
    from runner.backends.kubernetes import manifests
    from runner.backends.kubernetes.resolve import usual

    spec: dict[str, Any] = manifests.job(usual(cluster), cluster, 1)["spec"]["template"]["spec"]
    return spec


def _full(pod: Mapping[str, Any], resource: str, hard: str, used: str) -> bool:
    from runner.backends.kubernetes import fits
    from runner.config.quantities import amount

    kind = "limits" if resource.startswith("limits.") else "requests"
    asked = fits.total(pod, kind)
    name = resource.removeprefix("requests.").removeprefix("limits.")
    wanted = Decimal(1) if resource in fits.COUNTED else asked.get(name, Decimal(0))
    return bool(wanted) and wanted > amount(hard) - amount(used)


def queue(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Whether Kueue lets runs through the team's queue."""
    name = cluster.queue.name
    if not name:
        return
    look = f"kubectl describe localqueue {name} --namespace {client.namespace}"
    try:
        found = client.read("localqueues", name)
    except RunnerError as error:
        yield Check("queue", False, error.message, look)
        return
    status, of = found.get("status") or {}, found["spec"]["clusterQueue"]
    if said := _inactive(status):
        yield _stopped(client, found, said)
        return
    waiting = count(int(status.get("pendingWorkloads", 0)), "run waits", "runs wait")
    yield Check("queue", True, f"{name}, of the ClusterQueue {of}: {waiting} in it")
    yield from _covered(client, cluster, of)


def _inactive(status: Mapping[str, Any]) -> str:
    """Kueue's words for a queue that takes nothing; "" for one that does."""
    for one in status.get("conditions") or ():
        if one["type"] == "Active" and one["status"] != "True":
            return str(one.get("message") or one.get("reason"))
    return ""


def _stopped(client: Client, found: Mapping[str, Any], said: str) -> Check:
    """Which of the two queues it is, and the command that lets it go on."""
    name, of = found["metadata"]["name"], found["spec"]["clusterQueue"]
    go = """--type merge --patch '{"spec":{"stopPolicy":"None"}}'"""
    if found["spec"].get("stopPolicy", "None") != "None":
        mend = f"kubectl patch localqueue {name} --namespace {client.namespace} {go}"
        return Check("queue", False, f"the LocalQueue {name} was stopped: {said}", mend)
    again = f"kubectl patch clusterqueue {of} {go}"
    try:
        upper = client.read("clusterqueues", of)
    except RunnerError:
        mend = f"an admin looks: kubectl describe clusterqueue {of}; where it was stopped: {again}"
        return Check("queue", False, f"{name}, of the ClusterQueue {of}: {said}", mend)
    told = _inactive(upper.get("status") or {}) or said
    if upper["spec"].get("stopPolicy", "None") != "None":
        return Check("queue", False, f"the ClusterQueue {of} was stopped: {told}", again)
    look = f"kubectl describe clusterqueue {of}"
    return Check("queue", False, f"{name}, of the ClusterQueue {of}: {told}", look)


def _covered(client: Client, cluster: Cluster, of: str) -> Iterator[Check]:
    """Whether the ClusterQueue knows every resource that runs ask for: else it admits none."""
    from runner.backends.kubernetes import fits, helm
    from runner.backends.kubernetes.translate import Forbidden

    try:
        spec = client.read("clusterqueues", of)["spec"]
    except Forbidden:
        words = f"what the ClusterQueue {of} covers may not be read here"
        yield Check("queue", None, words, helm.upgrade(client.namespace, READ_NODES))
        return
    covered = {name for group in spec["resourceGroups"] for name in group["coveredResources"]}
    gpu = {one.resource for one in cluster.gpu_classes.values()}
    asked = set(fits.total(_pod(cluster), "requests"))
    for lacking, who, ok in ((asked - covered, "runs", False), (gpu - covered, "GPUs", None)):
        if lacking:
            names = ", ".join(sorted(lacking))
            words = f"the ClusterQueue {of} does not cover {names}: Kueue admits no run"
            more = " with a GPU" if who == "GPUs" else ""
            mend = (
                f"kubectl edit clusterqueue {of}: {names} in coveredResources, and a quota of it "
                "in each flavor; or excludeResourcePrefixes in Kueue's own configuration"
            )
            yield Check("queue", ok, f"{words}{more}", mend)
