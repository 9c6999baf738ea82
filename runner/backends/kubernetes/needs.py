"""The objects of the namespace that a run's pod needs, and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runner.backends.kubernetes import helm
from runner.backends.kubernetes.facts import Answer, Look, Ref, Right
from runner.cluster import Cluster
from runner.config.experiment import Experiment

STARTING = (
    Right("create", "batch", "jobs"),
    Right("list", "batch", "jobs"),
    Right("patch", "batch", "jobs"),
    Right("delete", "batch", "jobs"),
    Right("create|get", "", "secrets"),
    Right("create", "", "configmaps"),
    Right("list", "", "pods"),
)
"""What `submit` does."""
FOLLOWING = (
    Right("get", "", "pods/log"),
    Right("create|get", "", "pods/exec"),
    Right("create|get", "", "pods/portforward"),
)
"""What `logs`, `cancel`, `open` and `fetch` do, which are better known to be allowed before."""
STORE = (Right("create", "", "pods"), Right("delete", "", "pods"))
"""For the pod that gives access to records on a claim."""

CLUSTER_WIDE = ("PriorityClass", "RuntimeClass", "WorkloadPriorityClass")

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
GIT, GIT_SSH = ("token", "ssh-privatekey"), ("ssh-privatekey", "known_hosts")


@dataclass(frozen=True)
class Need:
    """An object that has to be there, which setting or field names it, and who mends it how."""

    ref: Ref
    named_by: str
    mend: str
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    """Keys that it has to have."""


@dataclass(frozen=True)
class Problem:
    """Why a run could not start, and the command that mends it."""

    words: str
    mend: str


def rights(cluster: Cluster) -> tuple[Right, ...]:
    """What the user has to be allowed in the namespace."""
    store = () if cluster.records.s3 else STORE
    return (*STARTING, *FOLLOWING, *store)


def secrets(names: Iterable[str], cluster: Cluster, named_by: str) -> Iterator[Need]:
    """The Secrets that have the values of these names."""
    for name in names:
        where = cluster.secrets.where(name)
        ref = Ref("Secret", where.secret)
        yield Need(ref, f"{named_by} {name}:", f"runner secrets set {name}", (where.key,))


def of_experiment(experiment: Experiment, cluster: Cluster, *, agent: bool) -> Iterator[Need]:
    """What the experiment's own fields lead to, by way of the chart's values."""
    sandbox = experiment.sandbox
    yield from secrets(sandbox.secrets, cluster, "sandbox.secrets")
    fetching = [model.secret for model in sandbox.models if model.secret]
    yield from secrets(fetching, cluster, "sandbox.models")
    if agent and experiment.agent.llm_secret:
        yield from secrets([experiment.agent.llm_secret], cluster, "agent.llm_secret")
    for volume in sandbox.volumes:
        claim = cluster.volumes[volume.name].claim
        yield Need(
            Ref("PersistentVolumeClaim", claim),
            f"the chart's volumes.{volume.name}.claim:",
            "an admin makes the claim, or corrects the chart's value",
        )
    queue = sandbox.queue or cluster.queue.name
    priority = sandbox.priority or (cluster.queue.priority_class if queue else None)
    if queue:
        of = "sandbox.queue:" if sandbox.queue else "the chart's queue.name:"
        yield Need(Ref("LocalQueue", queue), of, "name one that is there")
    if priority:
        of = "sandbox.priority:" if sandbox.priority else "the chart's queue.priorityClass:"
        kind = "WorkloadPriorityClass" if queue else "PriorityClass"
        yield Need(Ref(kind, priority), of, f"kubectl get {kind.lower()}es lists them")
    runtimes = {cluster.gpu_classes[name].runtime_class_name for name in sandbox.gpu}
    for runtime in sorted(filter(None, {*runtimes, cluster.pods.runtime_class_name})):
        yield Need(
            Ref("RuntimeClass", runtime),
            "the chart's runtimeClassName:",
            "kubectl get runtimeclasses lists them; an admin corrects the chart's value",
        )


def of_chart(experiment: Experiment, cluster: Cluster, namespace: str) -> Iterator[Need]:
    """What every run needs: it is missing where the chart is broken, or was never complete."""
    again = helm.upgrade(namespace)
    yield Need(
        Ref("ServiceAccount", cluster.pods.service_account),
        "the chart's pods.serviceAccount:",
        f"an admin makes the chart's objects anew: {again}",
    )
    for pull in cluster.images.pull_secrets:
        make = f"kubectl create secret docker-registry {pull} --namespace {namespace} …"
        yield Need(Ref("Secret", pull), "the chart's images.pullSecrets:", make)
    if name := cluster.network.ca_bundle:
        make = f"kubectl create configmap {name} --namespace {namespace} --from-file ca.crt"
        yield Need(Ref("ConfigMap", name), "the chart's network.caBundle:", make, ("ca.crt",))
    if cluster.secrets.git and experiment.sandbox.repos:
        name = cluster.secrets.git
        ssh = any(not repo.url.startswith("https://") for repo in experiment.sandbox.repos)
        files = " --from-file ".join(GIT_SSH if ssh else ("token",))
        make = f"kubectl create secret generic {name} --namespace {namespace} --from-file {files}"
        of = "the chart's secrets.git:"
        yield Need(Ref("Secret", name), of, make, GIT_SSH if ssh else (), any_of=GIT)
    if cluster.records.s3:
        name = cluster.records.s3.secret
        make = (
            f"kubectl create secret generic {name} --namespace {namespace} --from-env-file FILE, "
            f"which has lines {' and '.join(f'{key}=…' for key in AWS)}"
        )
        yield Need(Ref("Secret", name), "the chart's records.s3.secret:", make, AWS)
    claims = {"cache": cluster.cache_claim}
    if not cluster.records.s3:
        claims["records.claim"] = cluster.records.claim
    for key, claim in claims.items():
        if claim:
            yield Need(
                Ref("PersistentVolumeClaim", claim),
                f"the chart's {key}:",
                f"an admin makes the claim, or the chart's objects anew: {again}",
            )


def problems(
    needs: Iterable[Need], answers: Mapping[Ref, Answer], namespace: str
) -> Iterator[Problem]:
    """What is not there, each once, as far as the user may know."""
    for need in dict.fromkeys(needs):
        answer = answers[need.ref]
        if answer.look is not Look.HIDDEN and (wrong := _wrong(need, answer, namespace)):
            yield Problem(f"{need.named_by} {wrong}", need.mend)


def unknown(needs: Iterable[Need], answers: Mapping[Ref, Answer]) -> tuple[str, ...]:
    """What could not be checked."""
    hidden = [need.ref for need in needs if answers[need.ref].look is Look.HIDDEN]
    return tuple(f"{ref.kind} {ref.name}" for ref in dict.fromkeys(hidden))


def _wrong(need: Need, answer: Answer, namespace: str) -> str:
    kind, name = need.ref
    if answer.look is Look.ABSENT:
        where = "the cluster" if kind in CLUSTER_WIDE else f"namespace {namespace}"
        others = f"; there is {', '.join(answer.others)}" if answer.others else ""
        kueue = "; Kueue is not installed" if answer.no_kueue else ""
        return f"there is no {kind} {name} in {where}{others}{kueue}"
    if missing := [key for key in need.all_of if key not in answer.keys]:
        return f"the {kind} {name} has no value of the key {', '.join(missing)}"
    if need.any_of and not answer.keys & set(need.any_of):
        return f"the {kind} {name} has none of the keys {', '.join(need.any_of)}"
    if kind == "PersistentVolumeClaim":
        return _claim(name, answer)
    return ""


def _claim(name: str, answer: Answer) -> str:
    if answer.data.get("metadata", {}).get("deletionTimestamp"):
        return f"the claim {name} is being deleted"
    if answer.data.get("status", {}).get("phase") == "Lost":
        return f"the claim {name} has lost its volume"
    return ""
