"""The chart on a cluster: accepted, installed, tested, upgraded, rolled back, removed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_access
import pytest
import yaml
from chart_parts import CHART, OPTIONS, TOGETHER, find, merged, render, told, values
from kubernetes import client
from kubernetes.client import ApiClient
from sandbox_process import until

from runner.cluster import CONFIG_MAP, KEY, Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RESEARCHER, VIEWER = "chart-researcher", "chart-viewer"
PATHS = {
    "ClusterQueue": "/apis/kueue.x-k8s.io/v1beta1/clusterqueues",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "LocalQueue": "/apis/kueue.x-k8s.io/v1beta1/namespaces/{}/localqueues",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceFlavor": "/apis/kueue.x-k8s.io/v1beta1/resourceflavors",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
}
SMALL = {
    "resources": {"cpu": "100m", "memory": "1Gi", "disk": "2Gi", "shm": "64Mi", "agentCpu": "50m"},
    "records": {"claim": {"size": "1Gi"}},
    "rbac": {
        "researchers": [{"kind": "User", "name": RESEARCHER}],
        "viewers": [{"kind": "User", "name": VIEWER}],
    },
}
# With these, a pod whose containers do not say what they ask for is refused.
BOUNDED = {
    "quota": {
        "requests.cpu": 8,
        "requests.memory": "32Gi",
        "limits.memory": "32Gi",
        "requests.ephemeral-storage": "100Gi",
        "limits.ephemeral-storage": "100Gi",
        "requests.nvidia.com/gpu": 1,
    }
}


@pytest.fixture(scope="module")
def accounts(api: ApiClient) -> Iterator[str]:
    """A namespace for dry runs, with the ServiceAccounts that pods name."""
    with cluster_access.namespace(api, "chart-dry") as name:
        for account in ("runner-pod", "runner-test"):
            body = {"metadata": {"name": account}}
            client.CoreV1Api(api).create_namespaced_service_account(name, body)
        yield name


@pytest.mark.parametrize("names", [(), *((name,) for name in OPTIONS), tuple(TOGETHER)], ids=str)
def test_api_server_accepts(api: ApiClient, accounts: str, names: tuple[str, ...]) -> None:
    for thing in render(values(*names), accounts):
        if thing["kind"] == "ServiceAccount":
            thing["metadata"]["name"] += "-again"
        accepted(api, accounts, thing)
        for pod in pods_of(thing):
            accepted(api, accounts, pod)


def accepted(api: ApiClient, namespace: str, thing: dict[str, Any]) -> None:
    """The API server knows every field, and has no objection or warning."""
    answer = api.call_api(
        *api.param_serialize(
            "POST",
            PATHS[thing["kind"]].format(namespace),
            query_params=[("dryRun", "All"), ("fieldValidation", "Strict")],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=thing,
            auth_settings=["BearerToken"],
        )
    )
    content = json.loads(answer.read())
    assert answer.status == 201, f"{thing['kind']}: {content.get('message')}"
    warned = [text for text in answer.headers.getlist("Warning") if "is deprecated" not in text]
    assert warned == []


def pods_of(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What its controller makes: admission only warns about a controller, but refuses a pod."""
    spec = thing.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    if template:
        metadata = {**template["metadata"], "name": thing["metadata"]["name"]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


class Release:
    """The chart's release `runner` in a namespace, as an admin works with it."""

    def __init__(self, api: ApiClient, namespace: str, images: Path, top: Path) -> None:
        self.core, self.namespace = client.CoreV1Api(api), namespace
        self._images, self._top = images, top

    def helm(self, command: str, *words: str, given: dict[str, Any] | None = None) -> str:
        """One of helm's commands on it."""
        argv = [*command.split(), "runner", "--namespace", self.namespace, *words]
        if given is not None:
            file = self._top / "values.yaml"
            file.write_text(yaml.safe_dump(given))
            argv += [str(CHART), "--values", str(self._images), "--values", str(file)]
        ran = told(*argv)
        log = self.log("runner-test") if command == "test" else ""
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{log}"
        return ran.stdout

    def log(self, pod: str) -> str:
        return str(self.core.read_namespaced_pod_log(pod, self.namespace))

    def settings(self) -> Cluster:
        found = self.core.read_namespaced_config_map(CONFIG_MAP, self.namespace)
        return Cluster.model_validate_json(found.data[KEY])

    def kept(self) -> tuple[str, str, dict[str, str]]:
        """What has to stay: the claim, the Secret, and what was put into it."""
        claim = self.core.read_namespaced_persistent_volume_claim("runner-records", self.namespace)
        secret = self.core.read_namespaced_secret("runner-secrets", self.namespace)
        data = {key: base64.b64decode(text).decode() for key, text in (secret.data or {}).items()}
        return claim.metadata.uid, secret.metadata.uid, data


@pytest.fixture
def release(
    api: ApiClient, images: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Release]:
    with cluster_access.namespace(api, "chart") as name:
        yield Release(api, name, images, tmp_path)
        # What is of the whole cluster does not go with the namespace.
        told("uninstall", "runner", "--namespace", name, "--ignore-not-found")


def test_install_test_upgrade_rollback_uninstall(release: Release, api: ApiClient) -> None:
    said = release.helm("install", "--wait", given=merged(SMALL, BOUNDED))
    assert f"helm test runner --namespace {release.namespace}" in said
    assert "!" not in said
    value = {"stringData": {"ANTHROPIC_API_KEY": "kept"}}
    release.core.patch_namespaced_secret("runner-secrets", release.namespace, value)
    before = release.kept()
    assert before[2] == {"ANTHROPIC_API_KEY": "kept"}

    release.helm("test", "--timeout", "240s")
    assert "ok: the run is done, and its record is whole" in release.log("runner-test")
    account = f"system:serviceaccount:{release.namespace}:runner-test"
    assert not may(api, release.namespace, account, "create", "jobs.batch")

    release.helm("upgrade", "--wait", given=merged(SMALL, {"jobTtl": "2h"}))
    assert release.settings().job_ttl == 7200
    assert release.kept() == before
    release.helm("rollback", "1", "--wait")
    assert release.settings().job_ttl == 86400
    assert release.kept() == before

    said = release.helm("uninstall", "--wait")
    assert "runner-records" in said
    assert "runner-secrets" in said
    assert release.kept() == before
    left = release.core.list_namespaced_config_map(release.namespace).items
    assert [thing.metadata.name for thing in left] == ["kube-root-ca.crt"]
    # Runs that go on are not to reach more than before.
    policies = client.NetworkingV1Api(api).list_namespaced_network_policy(release.namespace).items
    assert {policy.metadata.name for policy in policies} == {"runner-deny", "runner-run"}

    release.helm("install", "--wait", given=SMALL)
    assert release.kept() == before
    elsewhere = merged(SMALL, {"secrets": {"create": False}, "records": {"existingClaim": "other"}})
    release.helm("upgrade", given=elsewhere)
    assert release.kept() == before


def test_notes_say_what_is_missing(api: ApiClient, images: Path, tmp_path: Path) -> None:
    with cluster_access.namespace(api, "chart-notes") as name:
        unlabelled = {"metadata": {"labels": dict.fromkeys(cluster_access.LEVELS)}}
        client.CoreV1Api(api).patch_namespace(name, unlabelled)
        claim = {"accessModes": ["ReadWriteOnce"]}
        given = {"records": {"claim": claim}, "network": {"policies": False}}
        said = Release(api, name, images, tmp_path).helm("install", given=given)
    label = f"kubectl label namespace {name} pod-security.kubernetes.io/enforce=restricted"
    assert label in said
    assert "network.policies is off" in said
    assert "not ReadWriteMany" in said
    assert "rbac.researchers is empty" in said


def may(
    api: ApiClient, namespace: str, user: str, verb: str, resource: str, name: str = ""
) -> bool:
    """Whether the API server would let the user; `resource` as `kubectl auth can-i` has it."""
    kind, _, sub = resource.partition("/")
    kind, _, group = kind.partition(".")
    asked = {
        "namespace": namespace,
        "verb": verb,
        "resource": kind,
        "group": group,
        "subresource": sub,
        "name": name,
    }
    body = {"spec": {"user": user, "resourceAttributes": asked}}
    answer = client.AuthorizationV1Api(api).create_subject_access_review(body)
    return bool(answer.status.allowed)


BOTH = (
    *(f"{verb} {kind}" for verb in ("get", "list", "watch") for kind in ("jobs.batch", "pods")),
    *(f"{verb} {kind}" for verb in ("get", "list") for kind in ("events", "configmaps")),
    "get pods/log",
    "get persistentvolumeclaims",
    "list resourcequotas",
    "get localqueues.kueue.x-k8s.io",
    "list workloads.kueue.x-k8s.io",
)
RESEARCHERS = (
    *(f"{verb} jobs.batch" for verb in ("create", "patch", "delete")),
    *(f"{verb} pods" for verb in ("create", "delete", "deletecollection")),
    *(f"{verb} pods/{sub}" for verb in ("get", "create") for sub in ("exec", "portforward")),
    *("create secrets", "get secrets", "create configmaps"),
)
NOBODYS = (
    *("get pods/proxy", "create pods/proxy", "get pods/attach", "patch pods/ephemeralcontainers"),
    *("create persistentvolumeclaims", "delete persistentvolumeclaims"),
    *("create serviceaccounts", "create serviceaccounts/token", "impersonate serviceaccounts"),
    *("create roles.rbac.authorization.k8s.io", "create rolebindings.rbac.authorization.k8s.io"),
    *("delete networkpolicies.networking.k8s.io", "patch networkpolicies.networking.k8s.io"),
    *("patch resourcequotas", "delete limitranges", "patch namespaces", "delete namespaces"),
    *("create cronjobs.batch", "create deployments.apps", "create services"),
    *("list secrets", "delete secrets", "patch secrets", "delete configmaps", "patch configmaps"),
    *("get secrets/status", "escalate roles.rbac.authorization.k8s.io"),
)
OF_THE_CLUSTER = ("list nodes", "get nodes", "get priorityclasses.scheduling.k8s.io")


def test_who_may_what(release: Release, api: ApiClient) -> None:
    release.helm("install", given=merged(SMALL, {"clusterRole": {"create": True}}))
    here = release.namespace

    def allowed(user: str, rights: tuple[str, ...], where: str = here) -> set[str]:
        return {right for right in rights if may(api, where, user, *right.split(" "))}

    every = (*BOTH, *RESEARCHERS, *NOBODYS)
    pod, test = (f"system:serviceaccount:{here}:{name}" for name in ("runner-pod", "runner-test"))
    until(lambda: allowed(VIEWER, ("get pods",)), what="the bindings take effect")
    assert allowed(RESEARCHER, every) == {*BOTH, *RESEARCHERS}
    assert allowed(VIEWER, every) == set(BOTH)
    for name, may_write in (("runner-secrets", True), ("sh.helm.release.v1.runner.v1", False)):
        assert may(api, here, RESEARCHER, "patch", "secrets", name) == may_write
    assert allowed(pod, every) == set()
    assert allowed(test, every) == set()
    for user in (RESEARCHER, VIEWER):
        assert allowed(user, OF_THE_CLUSTER, where="") == set(OF_THE_CLUSTER)
        assert allowed(user, every, where="default") == set()
    release.helm("upgrade", given=SMALL)
    until(lambda: not allowed(VIEWER, OF_THE_CLUSTER, where=""), what="the ClusterRole goes")
    assert allowed(RESEARCHER, OF_THE_CLUSTER, where="") == set()
    assert allowed(RESEARCHER, every, where="default") == set()


def test_two_namespaces_have_the_chart(
    release: Release, api: ApiClient, images: Path, tmp_path: Path
) -> None:
    given = merged(SMALL, {"clusterRole": {"create": True}})
    release.helm("install", given=given)
    with cluster_access.namespace(api, "chart-other") as name:
        other = Release(api, name, images, tmp_path)
        other.helm("install", given=given)
        other.helm("uninstall")
    release.helm("uninstall")


def test_pre_pull(release: Release, api: ApiClient) -> None:
    given = merged(SMALL, {"prePull": {"enabled": True}})
    release.helm("install", given=given)
    apps = client.AppsV1Api(api)

    def everywhere() -> bool:
        found = apps.read_namespaced_daemon_set("runner-pre-pull", release.namespace).status
        wanted = found.desired_number_scheduled
        return 0 < wanted == (found.number_ready or 0)

    until(everywhere, 120, "the images are on every node")


OLD_RECORDS = """
import os, pathlib, time
for name, days in ("old", 40), ("new", 1):
    folder = pathlib.Path("/records", name)
    folder.mkdir()
    for path in (folder / "transcript.jsonl", folder):
        path.is_dir() or path.write_text("{}")
        then = time.time() - days * 86400
        os.utime(path, (then, then))
"""


def test_retention(release: Release, api: ApiClient) -> None:
    given = merged(SMALL, {"records": {"retentionDays": 30, "retentionSchedule": "0 0 31 2 *"}})
    release.helm("install", given=given)
    batch = client.BatchV1Api(api)
    cron = batch.read_namespaced_cron_job("runner-retention", release.namespace)
    job = api.sanitize_for_serialization(cron.spec.job_template)
    container = job["spec"]["template"]["spec"]["containers"][0]
    command = container["command"]

    def run(name: str, argv: list[str]) -> str:
        container["command"] = argv
        batch.create_namespaced_job(release.namespace, {**job, "metadata": {"name": name}})
        pods = f"batch.kubernetes.io/job-name={name}"

        def over() -> Any:
            status = batch.read_namespaced_job(name, release.namespace).status
            return status.succeeded or status.failed

        until(over, 60, f"the Job {name}")
        (pod,) = release.core.list_namespaced_pod(release.namespace, label_selector=pods).items
        return release.log(pod.metadata.name)

    python = command[: command.index("-m")]
    assert run("prepare", [*python, "-c", OLD_RECORDS]) == ""
    assert run("retain", command).splitlines() == ["old: removed", "1 kept"]


def test_queues(release: Release, api: ApiClient) -> None:
    """Kueue takes what the chart makes of the values."""
    name = release.namespace
    kueue = {
        "queue": {"name": "runs"},
        "kueue": {
            "clusterQueue": name,
            "flavors": [{"name": name, "quota": {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1}}],
        },
    }
    release.helm("install", given=merged(SMALL, kueue))
    custom = client.CustomObjectsApi(api)

    def active() -> bool:
        found = custom.get_namespaced_custom_object(
            "kueue.x-k8s.io", "v1beta1", name, "localqueues", "runs"
        )
        conditions = found.get("status", {}).get("conditions", [])
        return any(c["type"] == "Active" and c["status"] == "True" for c in conditions)

    until(active, 30, "the LocalQueue is active")
    assert release.settings().queue.name == "runs"
    release.helm("uninstall")


def test_second_release_in_a_namespace_is_refused(release: Release) -> None:
    release.helm("install", given=SMALL)
    file = release._top / "values.yaml"
    where = ("--namespace", release.namespace, "--values", str(release._images))
    ran = told("install", "second", CHART, *where, "--values", file)
    assert ran.returncode != 0
    assert 'must equal "second": current value is "runner"' in ran.stderr


def test_golden_claim_is_the_one_that_runs_name(images: Path) -> None:
    """With the pushed images' own values."""
    given = merged(yaml.safe_load(images.read_text()), SMALL)
    objects = render(given)
    text = find(objects, "ConfigMap", CONFIG_MAP)["data"][KEY]
    claim = Cluster.model_validate_json(text).records.claim
    assert claim is not None
    assert find(objects, "PersistentVolumeClaim", claim)
