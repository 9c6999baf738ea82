"""Whether a pod could ever run somewhere; all of it pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from runner.backends.kubernetes import fits

GIB = Decimal(1024**3)


def container(name: str, **resources: Any) -> dict[str, Any]:
    sidecar = {"restartPolicy": "Always"} if resources.pop("sidecar", False) else {}
    return {"name": name, "resources": resources, **sidecar}


def pod(memory: str = "8Gi", cpu: str = "2", **spec: Any) -> dict[str, Any]:
    sandbox = container(
        "sandbox",
        requests={"cpu": cpu, "memory": memory},
        limits={"memory": memory, "nvidia.com/gpu": 1},
        sidecar=True,
    )
    agent = container("agent", requests={"cpu": "250m"}, limits={"memory": "1Gi"})
    clone = container("clone", limits={"memory": "4Gi", "cpu": "1"})
    return {"initContainers": [clone, sandbox], "containers": [agent], **spec}


def node(name: str, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    taints = status.pop("taints", [])
    allocatable = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2", **status}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": taints},
        "status": {"allocatable": allocatable},
    }


def quota(hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}}


def limit_range(**item: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": {"limits": [{"type": "Container", **item}]}}


def words(found: Any) -> str:
    return "\n".join(each for each, _ in found)


def test_total_counts_as_the_scheduler_does() -> None:
    requests = fits.total(pod(), "requests")
    assert requests == {"cpu": Decimal("2.25"), "memory": 9 * GIB, "nvidia.com/gpu": 1}
    large = container("large", requests={"cpu": 1, "memory": "20Gi"})
    before = {**pod(), "initContainers": [large, *pod()["initContainers"]]}
    assert fits.total(before, "requests")["memory"] == 20 * GIB
    after = {**pod(), "initContainers": [*pod()["initContainers"], large]}
    assert fits.total(after, "requests")["memory"] == 28 * GIB
    assert fits.total(pod(), "limits") == {
        "cpu": Decimal(1), "memory": 9 * GIB, "nvidia.com/gpu": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hard", "told", "field"),
    [
        ({"requests.memory": "8Gi"}, "memory 9Gi", "sandbox.memory"),
        ({"memory": "8Gi"}, "memory 9Gi", "sandbox.memory"),
        ({"limits.memory": "8Gi"}, "limits.memory 9Gi", "sandbox.memory"),
        ({"requests.nvidia.com/gpu": "0"}, "nvidia.com/gpu 1", "sandbox.gpu_count"),
        ({"requests.cpu": "2"}, "requests.cpu 2.25", "sandbox.cpu"),
        ({"pods": "0"}, "pods 1", ""),
        ({"count/jobs.batch": "0"}, "count/jobs.batch 1", ""),
        ({"limits.cpu": "100"}, "sandbox, agent has none", "sandbox.cpu"),
    ],
)
def test_a_quota_that_never_admits_it(hard: dict[str, str], told: str, field: str) -> None:
    ((said, of),) = fits.quota_problems(pod(), [quota(hard)])
    assert told in said
    assert "team" in said
    assert of == field


@pytest.mark.parametrize(
    "given",
    [
        quota({"requests.memory": "9Gi", "requests.nvidia.com/gpu": "1", "count/jobs.batch": "5"}),
        quota({"requests.memory": "1Gi"}, scopes=["BestEffort"]),
        quota({"requests.memory": "1Gi"}, scopeSelector={"matchExpressions": []}),
        quota({"requests.storage": "1Gi", "persistentvolumeclaims": "0"}),
    ],
)
def test_a_quota_that_may_admit_it(given: dict[str, Any]) -> None:
    assert words(fits.quota_problems(pod(), [given])) == ""


def test_a_limit_range_gives_what_a_quota_wants() -> None:
    given = limit_range(default={"cpu": "4"}, defaultRequest={"cpu": "1"})
    filled = fits.with_defaults(pod(), [given])
    assert words(fits.quota_problems(filled, [quota({"limits.cpu": "100"})])) == ""
    assert words(fits.range_problems(filled, [given])) == ""


def test_what_a_limit_range_refuses() -> None:
    given = limit_range(max={"memory": "4Gi"}, min={"cpu": "300m"})
    said = words(fits.range_problems(fits.with_defaults(pod(), [given]), [given]))
    assert "container sandbox needs memory 8Gi" in said
    assert "container agent has cpu 0.25" in said
    low = limit_range(default={"cpu": "1"})
    said = words(fits.range_problems(fits.with_defaults(pod(), [low]), [low]))
    assert said == "a LimitRange limits the container sandbox to cpu 1, below its request"


def test_a_node_that_could_hold_it() -> None:
    full = node("full", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])
    assert words(fits.node_problems(pod(), [full], {})) == ""
    assert words(fits.node_problems(pod(), [], {})) == ""


def test_no_node_is_large_enough() -> None:
    nodes = [node("small", memory="4Gi"), node("cpus", memory="2Gi", cpu="64")]
    found = list(fits.node_problems(pod(), nodes, {}))
    assert found == [
        (
            "the run needs memory 9Gi, with all its containers; the largest node for it has 4Gi",
            "sandbox.memory",
        )
    ]
    nodes = [node("memory", cpu="2"), node("cpus", memory="8Gi")]
    assert "no single node" in words(fits.node_problems(pod(), nodes, {}))


def test_no_node_has_the_gpu() -> None:
    label = "nvidia.com/gpu.product"
    nodes = [node("a", {label: "NVIDIA-L4"}), node("b", {label: "NVIDIA-L4"}), node("c")]
    wanted = pod(nodeSelector={label: "NVIDIA-A100-SXM4-80GB"})
    ((said, field),) = fits.node_problems(wanted, nodes, {label: ["NVIDIA-A100-SXM4-80GB"]})
    assert f"{label} = NVIDIA-A100-SXM4-80GB" in said
    assert "NVIDIA-L4 (2)" in said
    assert field == "sandbox.gpu"
    said = words(fits.node_problems(wanted, nodes[2:], {label: ["NVIDIA-A100-SXM4-80GB"]}))
    assert "no node has that label" in said


def test_an_affinity_selects_nodes() -> None:
    rule = {"key": "gpu", "operator": "In", "values": ["a", "b"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    wanted = pod(affinity=required)
    assert words(fits.node_problems(wanted, [node("x", {"gpu": "b"})], {"gpu": ["a", "b"]})) == ""
    assert "gpu = a or b" in words(
        fits.node_problems(wanted, [node("x", {"gpu": "c"})], {"gpu": ["a", "b"]})
    )


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "gpu", "operator": "Equal", "value": "yes"},
    ],
)
def test_taints(toleration: dict[str, str]) -> None:
    tainted = node("x", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert "gpu=yes:NoSchedule" in words(fits.node_problems(pod(), [tainted], {}))
    wrong = pod(tolerations=[{**toleration, "key": "other"}])
    if toleration.get("key"):
        assert words(fits.node_problems(wrong, [tainted], {}))
    stands = pod(tolerations=[toleration])
    assert words(fits.node_problems(stands, [tainted], {})) == ""


def test_the_charts_node_selector() -> None:
    said = words(fits.node_problems(pod(nodeSelector={"pool": "runs"}), [node("x")], {}))
    assert said == "no node has the labels pool=runs of the chart's pods.nodeSelector"
