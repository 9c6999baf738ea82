"""A run under Kueue: nothing happens before the Job is released, then it waits in the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api, CustomObjectsApi

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.samples import plan as sample_plan
from runner.cluster import Cluster, example
from runner.plan import PlannedImages, RunPlan

pytestmark = pytest.mark.cluster

KUEUE = "kueue.x-k8s.io/v1beta1"
QUOTAS = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "10Gi", "nvidia.com/gpu": "1"}
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def queue(
    api: ApiClient, namespace: str, apply: Callable[..., list[dict[str, Any]]]
) -> Iterator[str]:
    """A queue of one GPU, and a priority; the name of all of them is that of the namespace."""
    flavor = {
        "name": namespace,
        "resources": [{"name": key, "nominalQuota": value} for key, value in QUOTAS.items()],
    }
    apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner-pod"}},
        _kueue("ResourceFlavor", namespace, spec={}),
        _kueue("WorkloadPriorityClass", namespace, value=1000),
        _kueue(
            "ClusterQueue",
            namespace,
            spec={
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceGroups": [{"coveredResources": list(QUOTAS), "flavors": [flavor]}],
            },
        ),
        _kueue("LocalQueue", namespace, spec={"clusterQueue": namespace}),
    )
    yield namespace
    custom = CustomObjectsApi(api)
    for plural in ("clusterqueues", "resourceflavors", "workloadpriorityclasses"):
        custom.delete_cluster_custom_object("kueue.x-k8s.io", "v1beta1", plural, namespace)


@pytest.fixture(scope="module")
def cluster(images: Path, queue: str) -> Cluster:
    return example(
        images=yaml.safe_load(images.read_text())["images"],
        resources={"memory": "64Mi", "cpu": "100m", "disk": "1Gi", "agentMemory": "64Mi"},
        records={"s3": {"url": "s3://bucket", "secret": "runner-s3"}},
        queue={"name": queue},
    )


@pytest.fixture(scope="module")
def plan(cluster: Cluster, queue: str) -> RunPlan:
    base = cluster.images.catalogue[0]
    planned = PlannedImages(sandbox=base.image, agent=cluster.images.agent, python=base.python)
    return sample_plan("kueue", {"gpu": "A100", "priority": queue}, images=planned)


def test_run_waits_for_its_release_and_then_for_its_turn(
    api: ApiClient,
    namespace: str,
    apply: Callable[..., list[dict[str, Any]]],
    plan: RunPlan,
    cluster: Cluster,
) -> None:
    batch, core = BatchV1Api(api), CoreV1Api(api)

    def made(number: int) -> str:
        job = manifests.job(plan, cluster, number)
        pod = job["spec"]["template"]["spec"]
        for container in [*pod["initContainers"], *pod["containers"]]:
            lasts = container["name"] in ("sandbox", "agent")
            container["command"] = ["tini", "--", "sleep", "300"] if lasts else ["true"]
            container["env"] = []
        (found,) = apply(job)
        owner = manifests.owner_reference(found)
        apply(
            manifests.secret(plan, number, owner, "t0ken"),
            manifests.config_map(plan, number, owner, None, {}),
        )
        return str(found["metadata"]["name"])

    def released(name: str) -> None:
        batch.patch_namespaced_job(name, namespace, manifests.released(cluster, plan))

    def suspended(name: str) -> bool:
        return bool(batch.read_namespaced_job(name, namespace).spec.suspend)

    def running(name: str) -> bool:
        select = f"batch.kubernetes.io/job-name={name}"
        pods = core.list_namespaced_pod(namespace, label_selector=select).items
        return [pod.status.phase for pod in pods] == ["Running"]

    first, second = made(1), made(2)
    assert _workloads(api, namespace) == {}
    released(first)
    _until(lambda: running(first))
    assert suspended(second)
    released(second)
    _until(lambda: len(_workloads(api, namespace)) == 2)
    _until(lambda: "insufficient unused quota for nvidia.com/gpu" in _why(api, namespace, second))
    assert suspended(second)
    priorities = {item["spec"]["priority"] for item in _workloads(api, namespace).values()}
    assert priorities == {1000}
    batch.delete_namespaced_job(
        first, namespace, propagation_policy="Background", grace_period_seconds=0
    )
    _until(lambda: running(second))
    batch.delete_namespaced_job(second, namespace, propagation_policy="Background")


def _kueue(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": KUEUE, "kind": kind, "metadata": {"name": name}, **fields}


def _workloads(api: ApiClient, namespace: str) -> dict[str, Any]:
    """By the name of their Job."""
    found = CustomObjectsApi(api).list_namespaced_custom_object(
        "kueue.x-k8s.io", "v1beta1", namespace, "workloads"
    )
    return {item["metadata"]["ownerReferences"][0]["name"]: item for item in found["items"]}


def _why(api: ApiClient, namespace: str, job: str) -> str:
    """What Kueue says of a Job that waits."""
    status = _workloads(api, namespace)[job].get("status", {})
    return " ".join(condition.get("message", "") for condition in status.get("conditions", []))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, f"not so within {DEADLINE_S:g} s"
        time.sleep(0.2)
