"""The API server's word on the manifests, and what kubelet makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient
from plans import clusters, plans

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.samples import FOLDER, SAMPLES
from runner.cluster import Cluster
from runner.plan import RunPlan

pytestmark = pytest.mark.cluster

PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Secret": "/api/v1/namespaces/{}/secrets",
}
NAMED = {
    "/apis/scheduling.k8s.io/v1/priorityclasses": {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 1000,
    },
    "/apis/node.k8s.io/v1/runtimeclasses": {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "runc",
    },
}
"""What a pod may name only where it is there."""


@pytest.fixture(scope="module")
def restricted(api: ApiClient, namespace: str) -> Iterator[str]:
    """A namespace under Pod Security "restricted", and what the samples' pods name."""
    made = []
    try:
        for path, thing in NAMED.items():
            if request(api, "POST", path, thing)[0] == 201:
                made.append(f"{path}/{thing['metadata']['name']}")
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        assert request(api, "POST", accounts, {"metadata": {"name": "runner-pod"}})[0] == 201
        yield namespace
    finally:
        for path in made:
            request(api, "DELETE", path)


def request(
    api: ApiClient, method: str, path: str, body: Any = None, **query: str
) -> tuple[int, dict[str, Any], list[str]]:
    """Status, content and warnings of an answer; the client's own calls drop the warnings."""
    patch = method == "PATCH"
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/merge-patch+json" if patch else "application/json",
    }
    answer = api.call_api(
        *api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
    )
    content = json.loads(answer.read())
    return answer.status, content, answer.headers.getlist("Warning")


def accepted(api: ApiClient, namespace: str, thing: dict[str, Any]) -> dict[str, Any]:
    """What the API server would store: it knows every field, and has no objection or warning."""
    path = PATHS[thing["kind"]].format(namespace)
    status, content, warnings = request(
        api, "POST", path, thing, dryRun="All", fieldValidation="Strict"
    )
    assert status == 201, content.get("message")
    assert warnings == []
    return content


def as_pod(job: dict[str, Any]) -> dict[str, Any]:
    """The pod that the Job controller makes: admission warns about a Job, but refuses a pod."""
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "name": job["metadata"]["name"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("name", SAMPLES)
def test_api_server_accepts_the_golden_files(api: ApiClient, restricted: str, name: str) -> None:
    for thing in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text("utf-8")):
        accepted(api, restricted, thing)
        if thing["kind"] == "Job":
            accepted(api, restricted, as_pod(thing))


def test_the_namespace_would_refuse_what_is_not_restricted(api: ApiClient, restricted: str) -> None:
    pod = as_pod(SAMPLES["cpu"]()[0])
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = True
    status, content, _ = request(api, "POST", PATHS["Pod"].format(restricted), pod, dryRun="All")
    assert status in (403, 422), content
    job = SAMPLES["cpu"]()[0]
    job["spec"]["template"]["spec"].pop("securityContext")
    status, _, warnings = request(api, "POST", PATHS["Job"].format(restricted), job, dryRun="All")
    assert (status, len(warnings)) == (201, 1)


@settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=plans(), cluster=clusters(), number=st.integers(1, 10**6))
def test_api_server_accepts_any_plan(
    api: ApiClient, restricted: str, plan: RunPlan, cluster: Cluster, number: int
) -> None:
    job = manifests.job(plan, cluster, number)
    accepted(api, restricted, job)
    accepted(api, restricted, manifests.job(plan, cluster, number, suspended=False))
    pod = as_pod(job)
    if "priorityClassName" in pod["spec"]:
        pod["spec"]["priorityClassName"] = "high"
    accepted(api, restricted, pod)
    owner = manifests.owner_reference({"metadata": {"name": job["metadata"]["name"], "uid": "1"}})
    accepted(api, restricted, manifests.secret(plan, number, owner, "token"))
    accepted(api, restricted, manifests.config_map(plan, number, owner, b"\0", {"reason": "x"}))
