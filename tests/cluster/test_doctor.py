"""What `doctor` finds on a cluster: each finding made for real, with the command that mends it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cluster_access
import pytest
from command_line import CommandLine, Told
from faulty_runs import HELD, Cluster, write
from tiny_runs import until

from runner.backends.kubernetes.client import Client, connect
from runner.backends.kubernetes.manifests import PROBE
from runner.cluster import CONFIG_MAP, KEY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Apply = Callable[..., list[dict[str, Any]]]
MARKS = {True: "ok", False: "problem", None: "note"}


@pytest.fixture(scope="module")
def chart(namespace: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """With all that its ClusterRole can show; runs reach nothing of this machine."""
    values = {"clusterRole": {"create": True, "pods": True}, "network": {"allow": []}}
    return cluster_access.install_chart(namespace, images, tmp_path_factory.mktemp("chart"), values)


def findings(told: Told, name: str) -> list[tuple[str, str, str]]:
    """Those of one name: how bad, in words, and what mends it."""
    checks = [json.loads(line) for line in told.out.splitlines()]
    return [(MARKS[c["ok"]], c["found"], c["mend"]) for c in checks if c["name"] == name]


def doctor(line: CommandLine, name: str, *options: str) -> list[tuple[str, str, str]]:
    told = line("doctor", "--json", *options)
    found = findings(told, name)
    assert told.err == ""
    assert told.status == (3 if '"ok":false' in told.out else 0), told
    return found


@contextmanager
def saying(client: Client, **changes: Any) -> Iterator[None]:
    """The chart's settings with other values."""
    before = client.read("configmaps", CONFIG_MAP)["data"][KEY]
    now = json.loads(before)
    for key, value in changes.items():
        now[key] = {**now[key], **value} if isinstance(value, dict) else value
    client.patch("configmaps", CONFIG_MAP, {"data": {KEY: json.dumps(now)}})
    try:
        yield
    finally:
        client.patch("configmaps", CONFIG_MAP, {"data": {KEY: before}})


def test_what_is_there(cluster: Cluster) -> None:
    told = cluster.line("doctor", "--json")
    assert told.status == 0, told
    for name, words in (
        ("clock", "as the API server's"),
        ("gpus", "of 8 free on lab"),
        ("gpus", "NVIDIA-A100-SXM4-80GB (A100, A100-80GB, A100-any)"),
        ("quota", "none in this namespace"),
        ("chart", "ServiceAccount runner-pod"),
        ("records", "the claim runner-records is"),
        ("leftovers", "none"),
    ):
        assert any(words in found for _, found, _ in findings(told, name)), (name, words, told.out)
    [(mark, _, mend)] = findings(told, "probe")
    assert (mark, mend) == ("note", "runner doctor --backend kubernetes --probe")


def test_quotas(cluster: Cluster, apply: Apply) -> None:
    client = cluster.client

    def quota(**hard: str) -> None:
        named = {key.replace("__", "/"): value for key, value in hard.items()}
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
        apply({**body, "spec": {"hard": named}})
        spec = client.read("resourcequotas", "small")["spec"]["hard"]
        until(
            lambda: client.read("resourcequotas", "small").get("status", {}).get("hard") == spec,
            "the quota counts",
        )

    quota(configmaps="50")
    [(mark, words, _)] = doctor(cluster.line, "quota")
    assert mark == "ok"
    assert words.startswith("small: ")
    assert words.endswith(" of 50 configmaps in use")
    used = len(client.list("configmaps"))
    quota(configmaps=str(used))
    [(mark, words, mend)] = doctor(cluster.line, "quota")
    assert (mark, words) == (
        "note",
        f"small has no room for one more run (configmaps): {used} of {used} configmaps",
    )
    assert "--set 'quota.configmaps=MORE'" in mend
    quota(pods="0")
    bad = doctor(cluster.line, "quota")
    assert bad[0][0] == "problem"
    assert "the ResourceQuota small never allows more than 0" in bad[0][1]
    client.delete("resourcequotas", "small")


def test_a_limit_that_no_run_meets(cluster: Cluster, apply: Apply) -> None:
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}}
    apply({**body, "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}})
    bad = doctor(cluster.line, "quota")
    assert bad[0][0] == "problem"
    assert "a LimitRange allows 64Mi at most" in bad[0][1]
    cluster.client.delete("limitranges", "small")


def test_names_of_secrets_and_no_values(cluster: Cluster) -> None:
    value = {"stringData": {"OPENROUTER_API_KEY": "s3cret-value"}}
    cluster.client.patch("secrets", "runner-secrets", value)
    told = cluster.line("doctor", "--json")
    assert "s3cret-value" not in told.words
    there, lacking = findings(told, "secrets")
    assert there == ("ok", "there are values of OPENROUTER_API_KEY", "")
    assert lacking[2] == "runner secrets set ANTHROPIC_API_KEY --backend kubernetes"


def test_what_the_values_name_is_missing(cluster: Cluster) -> None:
    catalogue = {"pullSecrets": ["lab-registry"]}
    with saying(cluster.client, images=catalogue, secrets={"git": "git-credentials"}):
        found = doctor(cluster.line, "chart")
    space = cluster.client.namespace
    assert f"there is no Secret lab-registry in namespace {space}" in found[1][1]
    assert "kubectl create secret docker-registry lab-registry" in found[1][2]
    assert "there is no Secret git-credentials" in found[2][1]
    assert [mark for mark, _, _ in found[1:]] == ["problem", "problem"]


def test_claims(cluster: Cluster, apply: Apply) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "no-such-class"}
    spec = {**claim, "resources": {"requests": {"storage": "1Gi"}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "unbound"}}
    apply({**body, "spec": spec})
    with saying(cluster.client, records={"claim": "unbound"}, cacheClaim="no-such-claim"):
        told = cluster.line("doctor", "--json")
    assert told.status == 3
    mark, words, mend = findings(told, "records")[-1]
    assert (mark, "unbound is Pending" in words) == ("note", True)
    assert mend == f"kubectl describe pvc unbound --namespace {cluster.client.namespace}"
    [(mark, words, _)] = findings(told, "cache")
    assert (mark, '"no-such-claim" not found' in words) == ("problem", True)
    cluster.client.delete("persistentvolumeclaims", "unbound")


# -- queues ----------------------------------------------------------------------------------

QUEUES = """
apiVersion: kueue.x-k8s.io/v1beta1
kind: ResourceFlavor
metadata: {name: NAME}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: NAME}
spec:
  namespaceSelector: {}
  resourceGroups:
    - coveredResources: [cpu, memory]
      flavors:
        - name: NAME
          resources: [{name: cpu, nominalQuota: 8}, {name: memory, nominalQuota: 8Gi}]
"""
QUEUE = """
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata: {name: runs}
spec: {clusterQueue: NAME}
"""


@pytest.fixture(scope="module")
def kueue(kubeconfig: Path, namespace: str, apply: Apply) -> Iterator[str]:
    """A ClusterQueue that covers cores and memory alone, and a queue of it; its name."""
    assert kubeconfig
    client, name = connect(None, namespace), namespace
    try:
        apply(QUEUES.replace("NAME", name))
        until(lambda: active(client, "clusterqueues", name) == "True", "the ClusterQueue is active")
        apply(QUEUE.replace("NAME", name))  # made before, it would stay inactive for minutes
        until(lambda: active(client) == "True", "the queue is active")
        yield name
    finally:
        client.delete("localqueues", "runs")
        client.delete("clusterqueues", name)
        client.delete("resourceflavors", name)


@pytest.fixture
def queue(cluster: Cluster, kueue: str) -> Iterator[str]:
    """The chart names it, as long as a test lasts; the ClusterQueue's name."""
    with saying(cluster.client, queue={"name": "runs"}):
        yield kueue


def active(client: Client, kind: str = "localqueues", name: str = "runs") -> str:
    status = client.read(kind, name).get("status") or {}
    found = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    return str(found.get("Active"))


def test_a_queue_that_does_not_cover_what_runs_ask_for(cluster: Cluster, queue: str) -> None:
    good, bad, gpus = doctor(cluster.line, "queue")
    assert good == ("ok", f"runs, of the ClusterQueue {queue}: 0 runs wait in it", "")
    assert bad[0] == "problem"
    lacking = f"the ClusterQueue {queue} does not cover ephemeral-storage: Kueue admits no run"
    assert bad[1] == lacking
    assert f"kubectl edit clusterqueue {queue}" in bad[2]
    assert (gpus[0], gpus[1].endswith("admits no run with a GPU")) == ("note", True)


@pytest.mark.parametrize("kind", ["localqueue", "clusterqueue"])
def test_a_stopped_queue_and_its_mend(cluster: Cluster, queue: str, kind: str) -> None:
    client, name = cluster.client, "runs" if kind == "localqueue" else queue
    client.patch(f"{kind}s", name, {"spec": {"stopPolicy": "Hold"}})
    until(lambda: active(client) == "False", "the queue is stopped")
    [(mark, words, mend)] = doctor(cluster.line, "queue")
    assert (mark, f"{name} was stopped" in words) == ("problem", True), words
    subprocess.run(["bash", "-c", mend], check=True, capture_output=True)
    until(lambda: active(client) == "True", "the queue goes on")


# -- what nobody removed ---------------------------------------------------------------------


def test_orphans_and_their_mends(cluster: Cluster) -> None:
    with cluster.submitted(write(cluster.line, HELD)) as (submit, name):
        submit.said("cell 1")
        job = cluster.snapshot(name).job
        assert job is not None
        cluster.client.delete("jobs", job.name, propagation="Orphan")
        until(lambda: len(orphans(cluster)) == 2, "the pod and the ConfigMap are orphans")
        pod, config = orphans(cluster)
        assert f"the pod {job.name}-" in pod[1]
        assert f"the configmap {job.name} is without a Job" in config[1]
        for _, _, mend in (pod, config):
            subprocess.run(["bash", "-c", mend], check=True, capture_output=True)
    cluster.gone(name)
    assert [words for _, words, _ in doctor(cluster.line, "leftovers")] == ["none"]


def orphans(cluster: Cluster) -> list[tuple[str, str, str]]:
    return [one for one in doctor(cluster.line, "leftovers") if "without a Job" in one[1]]


# -- the probe -------------------------------------------------------------------------------


def probes(client: Client) -> list[dict[str, Any]]:
    return client.list("pods", labels=PROBE)


def test_a_probe_needs_the_role_alone_and_leaves_nothing(cluster: Cluster) -> None:
    told = cluster.line("doctor", "--probe", "--json")
    [(mark, words, _)] = findings(told, "images")
    assert (mark, words) == ("ok", "2 images pulled: agent, base")
    assert findings(told, "network")[0][1].startswith("policies are ")
    assert findings(told, "leftovers") == [("ok", "none", "")]
    assert probes(cluster.client) == []


def test_an_image_that_cannot_be_pulled(cluster: Cluster) -> None:
    settings = json.loads(cluster.client.read("configmaps", CONFIG_MAP)["data"][KEY])
    [base] = settings["images"]["catalogue"]
    gone = {**base, "name": "gone", "image": f"{base['image'].partition('@')[0]}@sha256:{'0' * 64}"}
    with saying(cluster.client, images={"catalogue": [base, gone]}):
        good, bad = doctor(cluster.line, "images", "--probe")
    assert good[1] == "2 images pulled: agent, base"
    assert bad[0] == "problem"
    assert bad[1].startswith(f"gone ({gone['image']}) cannot be pulled: ")
    assert "not found" in bad[1]
    assert "runner images push" in bad[2]


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_a_probe_that_is_ended(cluster: Cluster, how: str) -> None:
    nowhere = {"nodeSelector": {"runner/there": "nowhere"}}  # else they may be over before
    with (
        saying(cluster.client, pods=nowhere),
        cluster.line.starting("doctor", "--probe") as started,
    ):
        until(lambda: len(probes(cluster.client)) == 3, "its pods are there")
        getattr(started, how)()
        assert started.end().status == (130 if how == "interrupt" else -9)
    if how == "interrupt":
        assert probes(cluster.client) == []
        return
    [(mark, words, mend)] = doctor(cluster.line, "leftovers")
    assert (mark, words.startswith("3 pods of a probe")) == ("note", True)
    subprocess.run(["bash", "-c", mend], check=True, capture_output=True)
    assert [words for _, words, _ in doctor(cluster.line, "leftovers")] == ["none"]


# -- whether policies are enforced: the lab cluster's bridge enforces none -------------------


@pytest.mark.alone
def test_policies_that_nothing_enforces(cluster: Cluster) -> None:
    told = cluster.line("doctor", "--probe", "--json")
    mark, words, mend = findings(told, "network")[0]
    assert (told.status, mark) == (3, "problem")
    assert words.startswith("policies are not enforced: a run reaches a pod of the namespace, ")
    assert "the API server" in words
    assert "its node's kubelet" in words
    assert words.endswith("; another pod reaches a run's server")
    assert "Calico or Cilium" in mend


@pytest.mark.alone
def test_policies_that_are_enforced(cluster: Cluster) -> None:
    with enforcing(cluster.client):
        told = cluster.line("doctor", "--probe", "--json")
    [(mark, words, _)] = [one for one in findings(told, "network") if "policies" in one[1]]
    assert mark == "ok"
    assert words.startswith("policies are enforced")
    assert "a run reaches no other pod, and no pod a run; denied: " in words
    assert "the API server, its node's kubelet" in words


@pytest.mark.alone
@pytest.mark.parametrize("direction", ["out", "in"])
def test_policies_that_are_half_enforced(cluster: Cluster, direction: str) -> None:
    with enforcing(cluster.client, direction):
        told = cluster.line("doctor", "--probe", "--json")
    mark, words, _ = findings(told, "network")[0]
    left = "a run reaches a pod of the namespace" if direction == "in" else "another pod reaches"
    assert (mark, left in words) == ("problem", True)
    assert ("a run reaches" in words, "another pod reaches" in words) == (
        direction == "in",
        direction == "out",
    )


@contextmanager
def enforcing(client: Client, *directions: str) -> Iterator[None]:
    """Rules on the node as a network plugin would make them, for the probe's pod of this namespace.

    As it has an address: no connection from there, and none to there.
    """
    chain, over = "RUNNER-TEST-DOCTOR", threading.Event()
    sides = {"out": "--source", "in": "--destination"}

    def rule(*words: str) -> None:
        subprocess.run(["iptables", "--wait", "--table", "mangle", *words], check=True)

    def follow() -> None:
        known: set[str] = set()
        while not over.wait(0.05):
            for pod in client.list("pods", labels=f"{PROBE},app.kubernetes.io/component=run"):
                address = pod.get("status", {}).get("podIP")
                if address and address not in known:
                    known.add(address)
                    for side in directions or sides:
                        end = (sides[side], f"{address}/32", "--jump", "DROP")
                        rule("--append", chain, "--protocol", "tcp", "--syn", *end)

    rule("--new-chain", chain)
    rule("--insert", "PREROUTING", "--jump", chain)
    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        rule("--delete", "PREROUTING", "--jump", chain)
        rule("--flush", chain)
        rule("--delete-chain", chain)
