"""The cluster itself has what the other tests count on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from sandbox_process import until

pytestmark = pytest.mark.cluster

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "shared"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}


def test_a_claim_for_many_nodes_is_answered(
    api: ApiClient, namespace: str, apply: Callable[..., Any]
) -> None:
    apply(CLAIM)
    core = client.CoreV1Api(api)
    read = core.read_namespaced_persistent_volume_claim
    bound = until(lambda: read("shared", namespace).status.phase == "Bound", what="a bound claim")
    assert bound


def test_a_privileged_pod_is_refused(namespace: str, apply: Callable[..., Any]) -> None:
    container = {"name": "x", "image": "x", "securityContext": {"privileged": True}}
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [container]}}
    with pytest.raises(ApiException) as refused:
        apply({"apiVersion": "v1", "kind": "Pod", **pod})
    assert "violates PodSecurity" in str(refused.value.body)


def test_a_node_has_gpus(api: ApiClient) -> None:
    nodes = client.CoreV1Api(api).list_node(label_selector="nvidia.com/gpu.product").items
    assert any(int(node.status.allocatable.get("nvidia.com/gpu", 0)) for node in nodes)
