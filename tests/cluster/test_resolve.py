"""Each refusal before a run, produced for real: by a namespace, a chart and users of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_access
import pytest
import yaml
from kubernetes.client import ApiClient, CoreV1Api

from runner.backends.base import Resolved
from runner.backends.kubernetes.client import Client, connect
from runner.backends.kubernetes.resolve import load_cluster, resolve
from runner.cluster import Cluster
from runner.config.load import parse
from runner.errors import UsageError

pytestmark = pytest.mark.cluster

Apply = Callable[..., list[dict[str, Any]]]
KEYS = {"ANTHROPIC_API_KEY": "a", "HF_TOKEN": "b", "EMPTY": ""}


@pytest.fixture(scope="module")
def admin(kubeconfig: Path, chart: str, namespace: str, apply: Apply) -> Client:
    """The cluster's admin in a namespace with the chart, and a Secret with some keys."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "runner-secrets"}}
    apply({**secret, "stringData": KEYS})
    return connect(namespace=namespace)


@pytest.fixture(scope="module")
def user(
    kubeconfig: Path, api: ApiClient, namespace: str, apply: Apply, tmp_path_factory: Any
) -> Callable[..., Client]:
    """A client with the rights of these Roles only: a ServiceAccount of their names."""

    def make(*roles: str, space: str = namespace) -> Client:
        name = "-".join(["user", *roles])
        apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        for role in roles:
            apply(_binding(name, role, namespace))
        body = {"spec": {"expirationSeconds": 3600}}
        given = CoreV1Api(api).create_namespaced_service_account_token(name, namespace, body)
        config = yaml.safe_load(kubeconfig.read_text())
        config["users"] = [{"name": "user", "user": {"token": given.status.token}}]
        for context in config["contexts"]:
            context["context"]["user"] = "user"
        file = tmp_path_factory.mktemp("user") / "config"
        file.write_text(json.dumps(config))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(file))
            return connect(namespace=space)

    return make


@pytest.fixture(scope="module")
def offered(admin: Client) -> Cluster:
    return load_cluster(admin)


def _binding(name: str, role: str, namespace: str) -> dict[str, Any]:
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{name}-{role}"},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }


def resolved(
    client: Client, cluster: Cluster, said: list[str] | None = None, **sandbox: Any
) -> Resolved:
    experiment = parse({"name": "x", "task": "Do it.", "sandbox": sandbox}, folder=None)
    progress = (said if said is not None else []).append
    return resolve(client, cluster, experiment, agent=True, file="e.toml", progress=progress)


def refused(client: Client, cluster: Cluster, **sandbox: Any) -> str:
    with pytest.raises(UsageError) as caught:
        resolved(client, cluster, **sandbox)
    return str(caught.value)


def changed(cluster: Cluster, **values: Any) -> Cluster:
    """The cluster with other values of the chart, in its own spelling."""
    return Cluster.model_validate({**cluster.model_dump(mode="json", by_alias=True), **values})


@pytest.fixture
def there(apply: Apply, api: ApiClient, namespace: str) -> Iterator[Callable[..., None]]:
    """Puts an object there for one test."""
    made: list[dict[str, Any]] = []

    def put(kind: str, name: str, **content: Any) -> None:
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
        made.extend(apply(body))

    yield put
    core = CoreV1Api(api)
    plain = {"ResourceQuota": "resource_quota", "LimitRange": "limit_range"}
    for item in made:
        delete = getattr(core, f"delete_namespaced_{plain[item['kind']]}")
        delete(item["metadata"]["name"], namespace)


# -- what is there -----------------------------------------------------------------------------


def test_a_researcher_may_all_that_a_run_needs(
    admin: Client, offered: Cluster, user: Callable[..., Client]
) -> None:
    client = user("runner-researcher")
    assert load_cluster(client) == offered
    said: list[str] = []
    found = resolved(client, offered, said, secrets=["HF_TOKEN"], gpu="A100")
    assert said == []
    assert found.images is not None
    assert "@sha256:" in found.images.sandbox
    assert set(found.images.packages) == set(found.packages)
    assert any(pin.startswith("ipykernel==") for pin in found.packages)


# -- no chart, no namespace, no rights ---------------------------------------------------------


def test_a_namespace_that_does_not_exist(admin: Client) -> None:
    with pytest.raises(UsageError, match=r"no namespace 'nowhere-at-all'"):
        load_cluster(connect(namespace="nowhere-at-all"))


def test_a_chart_that_is_not_installed(api: ApiClient, admin: Client) -> None:
    with cluster_access.namespace(api, "resolve-empty") as empty:
        with pytest.raises(UsageError, match=f"chart is not installed in namespace {empty}") as no:
            load_cluster(connect(namespace=empty))
        assert f"helm install runner charts/runner --namespace {empty}" in no.value.hint


def test_nobody(user: Callable[..., Client], namespace: str) -> None:
    with pytest.raises(UsageError, match="may not get configmaps") as caught:
        load_cluster(user())
    assert "kubectl create rolebinding" in caught.value.hint


def test_a_viewer_may_start_nothing(
    offered: Cluster, user: Callable[..., Client], namespace: str
) -> None:
    client = user("runner-viewer")
    load_cluster(client)
    said = refused(client, offered)
    assert "may not create jobs.batch, patch jobs.batch, delete jobs.batch" in said
    assert "create secrets" in said
    assert "list pods" not in said
    assert f"--role runner-researcher --serviceaccount {namespace}:user-runner-viewer" in said


# -- what the namespace lacks ------------------------------------------------------------------


def test_missing_secrets(admin: Client, offered: Cluster) -> None:
    named = {"default": "runner-secrets", "named": {"WANDB": {"secret": "gone", "key": "token"}}}
    cluster = changed(offered, secrets=named)
    said = refused(admin, cluster, secrets=["HF_TOKEN", "EMPTY", "OTHER", "WANDB"])
    for name in ("EMPTY", "OTHER", "WANDB"):
        assert f"sandbox.secrets {name}: " in said
        assert f"→ runner secrets set {name}" in said
    assert "HF_TOKEN" not in said


def test_secrets_that_may_not_be_read(
    admin: Client, offered: Cluster, user: Callable[..., Client], apply: Apply
) -> None:
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
        {
            "apiGroups": [""],
            "resources": ["pods", "pods/log", "pods/exec", "pods/portforward", "configmaps"],
            "verbs": ["*"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    ]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    apply({**rbac, "metadata": {"name": "writer"}, "rules": rules})
    said: list[str] = []
    assert resolved(user("writer"), offered, said, secrets=["NOWHERE"])
    (line,) = said
    assert "Secret runner-secrets" in line
    assert "PersistentVolumeClaim" in line


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"pods": {"serviceAccount": "gone"}}, "there is no ServiceAccount gone in namespace"),
        ({"records": {"claim": "gone"}}, "records.claim: there is no PersistentVolumeClaim gone"),
        ({"cacheClaim": "gone"}, "cache: there is no PersistentVolumeClaim gone"),
        ({"network": {"caBundle": "gone"}}, "caBundle: there is no ConfigMap gone"),
        ({"network": {"caBundle": "runner-settings"}}, "has no value of the key ca.crt"),
        (
            {"records": {"s3": {"url": "s3://bucket", "secret": "runner-secrets"}}},
            "has no value of the key AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        ),
        ({"pods": {"runtimeClassName": "gone"}}, "there is no RuntimeClass gone in the cluster"),
    ],
)
def test_a_broken_chart(admin: Client, offered: Cluster, values: dict[str, Any], told: str) -> None:
    assert told in refused(admin, changed(offered, **values))


def test_a_missing_pull_secret(admin: Client, offered: Cluster) -> None:
    images = {**offered.images.model_dump(mode="json", by_alias=True), "pullSecrets": ["gone"]}
    said = refused(admin, changed(offered, images=images))
    assert "images.pullSecrets: there is no Secret gone" in said


def test_a_volume_without_its_claim(admin: Client, offered: Cluster) -> None:
    volumes = {"weights": {"claim": "gone"}, "caches": {"claim": "runner-cache"}}
    cluster = changed(offered, volumes=volumes)
    said = refused(admin, cluster, volumes=[{"name": "weights", "path": "w"}])
    assert "volumes.weights.claim: there is no PersistentVolumeClaim gone" in said
    assert resolved(admin, cluster, volumes=[{"name": "caches", "path": "w"}])


def test_queues_and_priorities(admin: Client, offered: Cluster, namespace: str) -> None:
    assert f"there is no LocalQueue gone in namespace {namespace}" in refused(
        admin, offered, queue="gone"
    )
    said = refused(admin, offered, queue="gone", priority="gone")
    assert "there is no WorkloadPriorityClass gone in the cluster" in said
    assert "there is no PriorityClass gone" in refused(admin, offered, priority="gone")
    assert resolved(admin, offered, priority="system-cluster-critical")


# -- room --------------------------------------------------------------------------------------


def test_no_node_has_the_gpu(admin: Client, offered: Cluster) -> None:
    said = refused(admin, offered, gpu="H200")
    assert "nvidia.com/gpu.product = NVIDIA-H200 or NVIDIA-H200-NVL: the nodes have" in said


def test_no_node_is_large_enough(admin: Client, offered: Cluster) -> None:
    said = refused(admin, offered, gpu="A100", gpu_count=64, memory="900Ti", cpu=4000, disk="2Pi")
    for resource in ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"):
        assert f"the run needs {resource} " in said


def test_nodes_that_may_not_be_read_are_not_checked(
    offered: Cluster, admin: Client, user: Callable[..., Client]
) -> None:
    assert resolved(user("runner-researcher"), offered, memory="900Ti", gpu="H200")


def test_a_quota_that_never_admits_it(
    admin: Client, offered: Cluster, there: Callable[..., None], namespace: str
) -> None:
    hard = {"requests.memory": "1100Mi", "requests.nvidia.com/gpu": "1", "limits.cpu": "64"}
    there("ResourceQuota", "tight", spec={"hard": hard})
    said = refused(admin, offered, gpu="A100", gpu_count=2)
    assert "the ResourceQuota tight never allows more than 1100Mi" in said
    assert "the run needs requests.nvidia.com/gpu 2" in said
    assert "the ResourceQuota tight on limits.cpu admits only pods whose containers all" in said


def test_a_limit_range_that_never_admits_it(
    admin: Client, offered: Cluster, there: Callable[..., None]
) -> None:
    there("LimitRange", "tight", spec={"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]})
    assert "the container sandbox needs memory 3Gi" in refused(admin, offered, memory="3Gi")
    assert resolved(admin, offered, memory="1Gi")
