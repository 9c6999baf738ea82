"""What kubelet makes of a run's pod: a Job of ours whose containers say what they see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.samples import plan as sample_plan
from runner.cluster import Cluster, example
from runner.plan import PinnedModel, PinnedRepo, PlannedImages, RunPlan

pytestmark = pytest.mark.cluster

AWKWARD = "a=b \"c\" 'd' $(HOME) $$(HOME) ${HOME} $ ünïcode\n- second: line\n"
DEADLINE_S = 90.0

PROBE = """
import json, os, pathlib, signal, sys, time
def writable(path):
    try:
        probe = pathlib.Path(path, ".probe")
        probe.write_text("")
        probe.unlink()
        return True
    except OSError:
        return False
def text(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return None
places = sys.argv[2:]
print(json.dumps({
    "time": time.monotonic(),
    "ids": [os.getuid(), os.getgid()],
    "env": dict(os.environ),
    "writable": [place for place in places if writable(place)],
    "there": [place for place in places if os.path.exists(place)],
    "token": text("/run/secrets/runner/token"),
    "config": sorted(f for f in os.listdir("/etc/runner") if not f.startswith("..")),
    "ca": text("/etc/runner-ca/ca.crt"),
    "git": text("/run/secrets/git/token"),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "kubernetes": os.path.exists("/var/run/secrets/kubernetes.io"),
}), flush=True)
if sys.argv[1] == "sandbox":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()
"""
PLACES = (
    *("/", "/workspace", "/sandbox", "/venv", "/record", "/cache", "/tmp"),
    *("/models", "/workspace/deep/scratch", "/etc/runner", "/run/secrets/runner"),
    *("/cache/uv", "/cache/huggingface/hub/models--lab--tiny"),
)

Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def cluster(images: Path) -> Cluster:
    given = yaml.safe_load(images.read_text())["images"]
    return example(
        images=given,
        cacheClaim="runner-cache",
        secrets={"git": "lab-git"},
        volumes={
            "models": {"claim": "lab-models"},
            "scratch": {"claim": "lab-scratch", "subPath": "runner", "readOnly": False},
        },
        network={"caBundle": "lab-cas", "httpsProxy": "http://proxy:3128"},
        resources={"memory": "256Mi", "cpu": "100m", "disk": "1Gi", "agentCpu": "50m"},
        pods={"env": {"AWKWARD": AWKWARD}},
    )


@pytest.fixture(scope="module")
def plan(cluster: Cluster) -> RunPlan:
    base = cluster.images.catalogue[0]
    url = "https://example.org/org/repo"
    sandbox = {
        "gpu": "A100",
        "secrets": ["HF_TOKEN"],
        "volumes": [
            {"name": "models", "path": "/models", "read_only": True},
            {"name": "scratch", "path": "deep/scratch"},
        ],
    }
    return sample_plan(
        "kubelet",
        sandbox,
        repos=(PinnedRepo(url=url, name="repo", ref=None, commit="0" * 40, install=True),),
        models=(
            PinnedModel(
                name="lab/tiny", revision=None, commit="0" * 40, size=None, secret="HUB_TOKEN"
            ),
        ),
        images=PlannedImages(sandbox=base.image, agent=cluster.images.agent, python=base.python),
    )


@pytest.fixture(scope="module")
def seen(
    api: ApiClient,
    namespace: str,
    apply: Callable[..., list[dict[str, Any]]],
    plan: RunPlan,
    cluster: Cluster,
) -> Iterator[Seen]:
    """What each container printed, from the Job's being made to its end."""
    apply(*_surroundings())
    core, batch = CoreV1Api(api), BatchV1Api(api)
    job = manifests.job(plan, cluster, 1)
    name = job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        python = "/opt/runner/bin/python"
        container["command"] = ["tini", "--", python, "-c", PROBE, container["name"], *PLACES]
    (made,) = apply(job)
    owner = manifests.owner_reference(made)
    assert batch.read_namespaced_job(name, namespace).spec.suspend is True
    apply(
        manifests.secret(plan, 1, owner, "t0ken"),
        manifests.config_map(plan, 1, owner, b"\x1f\x8b", {"reason": "started"}),
    )
    assert _pods(core, namespace, name) == []
    batch.patch_namespaced_job(name, namespace, manifests.released(cluster, plan))
    try:
        _until(lambda: batch.read_namespaced_job(name, namespace).status.succeeded == 1)
    except AssertionError:
        raise AssertionError(_told(core, namespace, name)) from None
    (found,) = _pods(core, namespace, name)
    every = [*found.spec.init_containers, *found.spec.containers]
    yield {
        one.name: json.loads(
            core.read_namespaced_pod_log(found.metadata.name, namespace, container=one.name)
        )
        | {"pod": found.metadata.name, "uid": found.metadata.uid, "node": found.spec.node_name}
        for one in every
    }


def test_containers_run_in_their_order(seen: Seen) -> None:
    assert list(seen) == ["record", "clone", "models", "install", "sandbox", "agent"]
    times = [one["time"] for one in seen.values()]
    assert times[:5] == sorted(times[:5])
    assert times[5] > times[3]


def test_nothing_runs_as_root_or_has_the_clusters_token(seen: Seen) -> None:
    for one in seen.values():
        assert one["ids"] == [1000, 1000]
        assert not one["kubernetes"]


def test_values_arrive_as_they_were_given(seen: Seen) -> None:
    assert seen["clone"]["env"]["AWKWARD"] == AWKWARD
    assert seen["install"]["env"]["AWKWARD"] == AWKWARD


def test_each_secret_is_where_it_is_needed(seen: Seen) -> None:
    def having(name: str) -> list[str]:
        return [key for key, one in seen.items() if one["env"].get(name)]

    assert having("HF_TOKEN") == ["sandbox"]
    assert having("HUB_TOKEN") == ["models"]
    assert having("ANTHROPIC_API_KEY") == ["agent"]
    assert [key for key, one in seen.items() if one["git"]] == ["clone"]
    assert [key for key, one in seen.items() if one["token"] == "t0ken"] == ["sandbox", "agent"]


def test_each_container_can_write_where_it_has_to(seen: Seen) -> None:
    inside = {"/workspace", "/sandbox", "/tmp"}
    assert {name: set(one["writable"]) for name, one in seen.items()} == {
        "record": inside | {"/record"},
        "clone": inside,
        "models": inside | {"/cache"},
        "install": inside | {"/cache", "/venv"},
        "sandbox": inside | {"/venv", "/workspace/deep/scratch"},
        "agent": {"/record", "/tmp"},
    }
    assert "/models" in seen["sandbox"]["there"]
    assert "/cache/huggingface/hub/models--lab--tiny" in seen["sandbox"]["there"]
    assert "/record" not in seen["sandbox"]["there"]


def test_sandbox_has_the_plan_but_not_the_record(seen: Seen) -> None:
    everything = ["agent.json", "plan.json", "record.tar.gz"]
    configs = {name: one["config"] for name, one in seen.items()}
    assert configs.pop("record") == configs.pop("agent") == everything
    assert set(map(tuple, configs.values())) == {("plan.json",)}


def test_certificates_are_everywhere(seen: Seen) -> None:
    for one in seen.values():
        assert one["ca"] == "a certificate\n"
        assert one["env"]["SSL_CERT_FILE"] == "/etc/runner-ca/ca.crt"


def test_shared_memory_is_what_the_memory_allows(seen: Seen) -> None:
    assert seen["sandbox"]["shm"] == 256 * 1024**2


def test_agent_knows_where_it_runs(api: ApiClient, plan: RunPlan, seen: Seen) -> None:
    own = seen["agent"]
    assert own["env"]["POD_NAME"] == own["pod"]
    assert own["env"]["POD_UID"] == own["uid"]
    assert own["env"]["NODE_NAME"] == own["node"]
    assert own["env"]["RUNNER_JOB"] == f"{plan.run_id}-1"
    labels = CoreV1Api(api).read_node(own["node"]).metadata.labels
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"


def test_all_goes_with_the_job(api: ApiClient, namespace: str, plan: RunPlan, seen: Seen) -> None:
    core, batch = CoreV1Api(api), BatchV1Api(api)
    name = f"{plan.run_id}-1"
    batch.delete_namespaced_job(name, namespace, propagation_policy="Background")

    def left() -> list[str]:
        select = f"runner/run={plan.run_id}"
        lists = (core.list_namespaced_secret, core.list_namespaced_config_map)
        found = [item for list_ in lists for item in list_(namespace, label_selector=select).items]
        return [item.metadata.name for item in [*found, *_pods(core, namespace, name)]]

    _until(lambda: left() == [])


def _surroundings() -> list[dict[str, Any]]:
    """What the chart and an admin make in a namespace."""
    claims = ("runner-records", "runner-cache", "lab-models", "lab-scratch")
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner-pod"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "runner-secrets"},
            "stringData": {"HF_TOKEN": "hf", "HUB_TOKEN": "hub", "ANTHROPIC_API_KEY": "sk"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "lab-git"},
            "stringData": {"token": "git"},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "lab-cas"},
            "data": {"ca.crt": "a certificate\n"},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim},
                "spec": spec,
            }
            for claim in claims
        ),
    ]


def _pods(core: CoreV1Api, namespace: str, job: str) -> list[Any]:
    select = f"batch.kubernetes.io/job-name={job}"
    return list(core.list_namespaced_pod(namespace, label_selector=select).items)


def _told(core: CoreV1Api, namespace: str, job: str) -> str:
    """What the cluster says of a Job that did not end well."""
    events = core.list_namespaced_event(namespace).items
    statuses = [
        (status.name, status.state.waiting or status.state.terminated)
        for pod in _pods(core, namespace, job)
        for status in [
            *(pod.status.init_container_statuses or []),
            *(pod.status.container_statuses or []),
        ]
    ]
    return "\n".join([*(event.message or "" for event in events), *map(str, statuses)])


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, f"not so within {DEADLINE_S:g} s"
        time.sleep(0.2)
