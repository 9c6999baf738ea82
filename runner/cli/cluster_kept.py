"""What `doctor` says of what a namespace holds: claims, Secrets, and what nobody removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.cli.check import Check
from runner.cli.words import count
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.cluster import Cluster


def storage(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Whether the claims of records and of the cache are there, and for how many nodes."""
    if cluster.records.s3:
        yield Check("records", True, f"in {cluster.records.s3.url}")
    claims = {"records": None if cluster.records.s3 else cluster.records.claim}
    volumes = {f"volume {name}": volume.claim for name, volume in cluster.volumes.items()}
    for name, claim in {**claims, "cache": cluster.cache_claim, **volumes}.items():
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
    if phase == "Lost":
        return Check(name, False, f"{words}: its volume is gone", look)
    if phase != "Bound":
        return Check(name, None, f"{words}; some storage is made for the first run only", look)
    if "ReadWriteMany" not in modes and "ReadOnlyMany" not in modes:
        mend = "a claim with ReadWriteMany, if the cluster has more than one node"
        return Check(name, None, f"{words}, for one node at a time ({', '.join(modes)})", mend)
    return Check(name, True, words)


def named(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Whether the ServiceAccount, Secrets and ConfigMaps that the chart's values name are there."""
    from concurrent.futures import ThreadPoolExecutor

    from runner.backends.kubernetes import needs
    from runner.backends.kubernetes.facts import AT_ONCE, objects
    from runner.backends.kubernetes.resolve import usual

    every = needs.of_chart(usual(cluster).experiment, cluster, client.namespace)
    wanted = [need for need in every if need.ref.kind != "PersistentVolumeClaim"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = objects(client, [need.ref for need in wanted], pool)()
    problems = list(needs.problems(wanted, answers, client.namespace))
    for problem in problems:
        yield Check("chart", False, problem.words, problem.mend)
    if hidden := needs.unknown(wanted, answers):
        words = f"not known, as you may not read them: {', '.join(hidden)}"
        yield Check("chart", None, words)
    there = ", ".join(f"{need.ref.kind} {need.ref.name}" for need in wanted)
    if not problems and not hidden:
        yield Check("chart", True, f"what its values name is there: {there}")


def secrets(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Which names have values. No value is kept."""
    from runner.backends.kubernetes.facts import Look
    from runner.backends.kubernetes.secrets import known

    found = known(client, cluster)
    there = [one.name for one in found if one.look is Look.THERE]
    if there:
        yield Check("secrets", True, f"there are values of {', '.join(there)}")
    for one in found:
        words = f"{one.name} has no value: no key {one.where.key} in the Secret {one.where.secret}"
        if one.look is Look.ABSENT:
            mend = f"runner secrets set {one.name} --backend kubernetes"
            yield Check("secrets", None, words, mend)
    if any(one.look is Look.HIDDEN for one in found):
        yield Check("secrets", None, "you may not read which there are")


def leftovers(client: Client) -> Iterator[Check]:
    """What nobody removed: of killed clients, of probes, and of Jobs that left theirs behind."""
    found = [*_held(client), *_pods(client), *_orphans(client)]
    yield from found or [Check("leftovers", True, "none")]


def _held(client: Client) -> Iterator[Check]:
    """Jobs whose `submit` or `cancel` was killed."""
    from runner.backends.kubernetes.objects import snapshots
    from runner.backends.kubernetes.snapshot import CANCELLED

    for snap in snapshots(client).values():
        job = snap.job
        if job and job.suspended and not job.queue and not job.finished:
            cancelled = CANCELLED in job.annotations
            what = "cancelled, and is still there" if cancelled else "never released"
            words = f"{job.run_id}: its Job was {what}; it holds no GPU"
            mend = f"runner delete --backend kubernetes {job.run_id}"
            yield Check("leftovers", None, words, mend)


def _pods(client: Client) -> Iterator[Check]:
    """Pods of clients that were killed, which ended since; and those of probes."""
    from runner.backends.kubernetes.manifests import PROBE
    from runner.backends.kubernetes.objects import STORES
    from runner.backends.kubernetes.snapshot import pod_of

    where = f"--namespace {client.namespace}"
    over = [pod.name for pod in map(pod_of, client.list("pods", labels=STORES)) if pod.over]
    if over:
        words = f"{count(len(over), 'pod')} that read records and ended"
        yield Check(
            "leftovers", None, words, f"kubectl delete pod {' '.join(sorted(over))} {where}"
        )
    if probes := client.list("pods", labels=PROBE):
        words = f"{count(len(probes), 'pod')} of a probe that goes on elsewhere, or was killed"
        yield Check("leftovers", None, words, f"kubectl delete pod --selector {PROBE} {where}")


def _orphans(client: Client) -> Iterator[Check]:
    """What runs left behind whose Job is gone: `kubectl delete job --cascade=orphan` does that."""
    from runner.backends.kubernetes.manifests import PROBE
    from runner.backends.kubernetes.objects import RUNS

    where = f"--namespace {client.namespace}"
    for kind, words in (
        ("pods", "without a Job: no command ends it, and it may hold a GPU"),
        ("configmaps", "without a Job; its Secret of the same name is left as well"),
    ):
        for item in client.list(kind, labels=f"{RUNS},!{PROBE}"):
            meta = item["metadata"]
            if not meta.get("ownerReferences") and not meta.get("deletionTimestamp"):
                one = kind.removesuffix("s")
                also = "" if kind == "pods" else ",secret"
                mend = f"kubectl delete {one}{also} {meta['name']} {where}"
                yield Check("leftovers", None, f"the {one} {meta['name']} is {words}", mend)
