"""Placement, volumes, amounts, names: the parts that manifests are made of."""

from __future__ import annotations

from typing import Any

import pytest
from pods import spec

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.manifests.amounts import cores, size, total
from runner.backends.kubernetes.samples import plan
from runner.cluster import example
from runner.errors import UsageError

# -- GPU classes -------------------------------------------------------------------------------

ONE, TWO = {"values": ["one"]}, {"values": ["two", "three"]}


def _in(*values: str, label: str = "nvidia.com/gpu.product") -> dict[str, Any]:
    return {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}]}


def test_one_value_is_a_node_selector() -> None:
    pod = spec(plan("p", {"gpu": "ONE"}), example(gpuClasses={"ONE": ONE}))
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "one"}
    assert "affinity" not in pod
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert pod["tolerations"] == [toleration]


def test_several_values_are_an_affinity() -> None:
    pod = spec(plan("p", {"gpu": "TWO"}), example(gpuClasses={"TWO": TWO}))
    assert "nodeSelector" not in pod
    required = {"nodeSelectorTerms": [_in("two", "three")]}
    assert pod["affinity"] == {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
    }


def test_several_classes_are_preferred_in_their_order() -> None:
    classes = {
        "ONE": ONE,
        "TWO": TWO,
        "GKE": {"values": ["l4"], "label": "gke", "tolerations": [{"key": "gke"}]},
    }
    pod = spec(plan("p", {"gpu": ["TWO", "GKE", "ONE"]}), example(gpuClasses=classes))
    terms = [_in("two", "three", "one"), _in("l4", label="gke")]
    assert pod["affinity"]["nodeAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": _in("two", "three")},
            {"weight": 50, "preference": _in("l4", label="gke")},
        ],
    }
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu", "gke"]


def test_runtime_class_is_that_of_the_gpu_class() -> None:
    nvidia = {"values": ["one"], "runtimeClassName": "nvidia"}
    cluster = example(gpuClasses={"ONE": nvidia}, pods={"runtimeClassName": "kata"})
    assert spec(plan("p", {"gpu": "ONE"}), cluster)["runtimeClassName"] == "nvidia"
    assert spec(plan("p", {}), cluster)["runtimeClassName"] == "kata"


@pytest.mark.parametrize(
    ("classes", "pods", "words"),
    [
        ({"ONE": ONE}, {}, "no GPU class TWO"),
        ({"ONE": ONE, "TWO": {**TWO, "resource": "amd.com/gpu"}}, {}, "different resources"),
        ({"ONE": ONE, "TWO": {**TWO, "runtimeClassName": "x"}}, {}, "different runtime classes"),
        ({"ONE": ONE, "TWO": TWO}, {"runtimeClassName": "gvisor"}, "passes no GPU through"),
    ],
)
def test_classes_that_do_not_go_together(
    classes: dict[str, Any], pods: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        spec(plan("p", {"gpu": ["ONE", "TWO"]}), example(gpuClasses=classes, pods=pods))
    assert caught.value.hint


# -- volumes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/tmp", "/etc", "/etc/runner/x", "/dev/shm", "/opt/runner", "/cache", "/a:b"]
)
def test_volume_cannot_hide_what_a_run_needs(path: str) -> None:
    made = plan("p", {"volumes": [{"name": "models", "path": path}]})
    with pytest.raises(UsageError, match="cannot be the place of a volume"):
        spec(made, example(volumes={"models": {"claim": "m"}}))


def test_unknown_volume_is_refused() -> None:
    made = plan("p", {"volumes": [{"name": "modles", "path": "m"}]})
    with pytest.raises(UsageError, match="no volume modles") as caught:
        spec(made, example(volumes={"models": {"claim": "m"}}))
    assert "models" in caught.value.hint


# -- small parts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("author", "label"),
    [
        ("ada", "ada"),
        ("Zoë Müller", "zoe-muller"),
        ("DOMAIN\\ada", "domain-ada"),
        ("李雷", "user-3a47328a"),
        ("", "user-e3b0c442"),
        ("x" * 100, "x" * 40),
    ],
)
def test_owner_label(author: str, label: str) -> None:
    assert manifests.owner_label(author) == label


@pytest.mark.parametrize(
    ("written", "meant"),
    [("4", "4"), ("0.5", "500m"), ("250m", "250m"), ("4000m", "4"), ("1e1", "10"), ("1n", "1m")],
)
def test_cores(written: str, meant: str) -> None:
    assert cores(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("16Gi", "16Gi"),
        ("500M", "500M"),
        ("1.5Gi", "1536Mi"),
        ("2000000k", "2000000k"),
        ("1e9", "1000000000"),
        ("1024Mi", "1024Mi"),
    ],
)
def test_size(written: str, meant: str) -> None:
    assert size(written) == meant


def test_total() -> None:
    assert total("1Gi", "512Mi", "512Mi") == "2Gi"
    assert total("1Gi", "1") == str(1024**3 + 1)
