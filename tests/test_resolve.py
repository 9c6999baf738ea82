"""What is refused before a run starts on a cluster, by an API server in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_api import SPACE, FakeApi

from runner import packages
from runner.backends.base import Resolved
from runner.backends.kubernetes.resolve import allowed, load_cluster, resolve
from runner.backends.kubernetes.translate import Forbidden
from runner.cluster import Cluster, example
from runner.config.experiment import Experiment
from runner.config.load import parse
from runner.errors import ConfigError, UsageError
from runner.images import installing
from runner.plan import PlannedImages, RunPlan

PACKAGES = ["ipykernel==7.4.0", "numpy==2.4.6", "jupyter_client==8.10.0"]
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}


def image(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.org/{name}@sha256:{'b' * 64}",
        "python": "/opt/python/bin/python",
        "pythonVersion": "3.11.2",
        "packages": PACKAGES,
        "systemPackages": ["git"],
        **changes,
    }


def cluster(**changes: Any) -> Cluster:
    catalogue = [
        image("base"),
        image("new", pythonVersion="3.13.1"),
        image(
            "torch",
            gpu=True,
            systemPackages=["git", "ffmpeg"],
            packages=[*PACKAGES, "torch==2.9.0"],
        ),
    ]
    given: dict[str, Any] = {
        "images": {
            "agent": "registry.example.org/agent@sha256:" + "a" * 64,
            "catalogue": catalogue,
        },
        "volumes": {
            "weights": {"claim": "lab-weights"},
            "scratch": {"claim": "lab-scratch", "readOnly": False},
        },
        **changes,
    }
    return example(**given)


@pytest.fixture
def api() -> FakeApi:
    """A namespace that has all that a run needs."""
    made = FakeApi()
    fill(made)
    return made


def fill(api: FakeApi) -> None:
    api.put("serviceaccounts", "runner-pod")
    for claim in ("runner-records", "lab-weights", "lab-scratch"):
        api.put("persistentvolumeclaims", claim, status={"phase": "Bound"})
    keys = {"ANTHROPIC_API_KEY": "c2VjcmV0", "HF_TOKEN": "c2VjcmV0", "EMPTY": ""}
    api.put("secrets", "runner-secrets", data=keys)
    allocatable = {
        "cpu": "64", "memory": "512Gi", "ephemeral-storage": "2Ti", "nvidia.com/gpu": "8",
    }  # fmt: skip
    node(api, "node-1", A100, **allocatable)


def node(api: FakeApi, name: str, labels: dict[str, str], **allocatable: str) -> None:
    meta = {"labels": labels}
    status = {"allocatable": allocatable}
    api.put("nodes", name, metadata=meta, spec={}, status=status)


def experiment(agent: dict[str, Any] | None = None, **sandbox: Any) -> Experiment:
    data = {"name": "x", "task": "Do it.", "sandbox": sandbox, "agent": agent or {}}
    return parse(data, folder=None)


def resolved(
    api: FakeApi, given: Cluster | None = None, *, said: list[str] | None = None, **sandbox: Any
) -> Resolved:
    return resolve(
        api,
        given or cluster(),
        experiment(**sandbox),
        agent=True,
        file="e.toml",
        progress=(said if said is not None else []).append,
    )


def refused(api: FakeApi, given: Cluster | None = None, **sandbox: Any) -> str:
    with pytest.raises(UsageError) as caught:
        resolved(api, given, **sandbox)
    assert caught.value.exit_status == 2
    return str(caught.value)


# -- what comes of it --------------------------------------------------------------------------


def test_all_is_there(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_uv", pytest.fail)  # the image has all of it: uv is not asked
    found = resolved(
        api, cluster(gpuHourUsd=2.5), python_packages=["numpy>=2"], secrets=["HF_TOKEN"]
    )
    assert found.python == "3.11.2"
    assert found.packages == ("ipykernel==7.4.0", "jupyter-client==8.10.0", "numpy==2.4.6")
    assert found.images is not None
    assert found.images.packages == found.packages
    assert found.images.sandbox.startswith("registry.example.org/base@")
    assert found.images.agent.startswith("registry.example.org/agent@")
    assert found.gpu_hour_usd == 2.5
    assert found.secrets == {}
    assert not [path for method, path in api.requests if method != "GET" and "review" not in path]


def test_one_look_up_for_each_object(api: FakeApi) -> None:
    resolved(api, secrets=["HF_TOKEN"])
    paths = [path for _, path in api.requests]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("sandbox", "name"),
    [
        ({}, "base"),
        ({"image": "new"}, "new"),
        ({"image": image("torch")["image"]}, "torch"),
        ({"python_version": "3.13"}, "new"),
        ({"python_version": "3.13.1"}, "new"),
        ({"gpu": "A100"}, "torch"),
        ({"gpu": "A100", "image": "base"}, "base"),
        ({"gpu": "A100", "python_version": "3.13"}, "new"),
        ({"system_packages": ["ffmpeg"]}, "torch"),
        ({"python_packages": ["torch"]}, "torch"),
        ({"python_packages": ["numpy"]}, "base"),
    ],
)
def test_the_image(api: FakeApi, sandbox: dict[str, Any], name: str) -> None:
    images = resolved(api, **sandbox).images
    assert images is not None
    assert images.sandbox.startswith(f"registry.example.org/{name}@")


def test_uv_is_asked_for_what_the_image_lacks(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def resolve_over(*given: Any) -> tuple[str, ...]:
        asked.append(given)
        return ("einops==0.8.1", "numpy==2.4.6")

    monkeypatch.setattr(packages, "resolve_over", resolve_over)
    said: list[str] = []
    found = resolved(api, said=said, python_packages=["einops", "numpy"])
    assert asked == [(("einops",), tuple(PACKAGES), "3.11.2", installing.UV_DEADLINE_S)]
    assert found.images is not None
    assert set(found.packages) - set(found.images.packages) == {"einops==0.8.1"}
    assert said == ["resolving einops"]


def test_a_conflict_is_told_in_the_words_of_uv(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflict(*_: Any) -> tuple[str, ...]:
        raise UsageError("uv could not resolve: you require numpy<2 and numpy==2.4.6")

    monkeypatch.setattr(packages, "resolve_over", conflict)
    said = refused(api, python_packages=["numpy<2"])
    assert "you require numpy<2 and numpy==2.4.6" in said
    assert "the image base keeps its own packages" in said


# -- what the chart does not have --------------------------------------------------------------


@pytest.mark.parametrize(
    ("sandbox", "key", "told"),
    [
        (
            {"image": "tocrh"},
            "sandbox.image",
            "base, new, torch, found 'tocrh'|Did you mean `torch`?",
        ),
        ({"image": "ghcr.io/me/mine:1"}, "sandbox.image", "base, new, torch|runner images push"),
        ({"python_version": "3.14"}, "sandbox.python_version", "3.11.2 in base, 3.13.1 in new"),
        ({"image": "base", "python_version": "3.13"}, "sandbox.python_version", "found '3.13'"),
        (
            {"system_packages": ["git", "jq"]},
            "sandbox.system_packages",
            "jq missing|runner images build base --add jq",
        ),
        (
            {"image": "base", "system_packages": ["ffmpeg"]},
            "sandbox.system_packages",
            'ffmpeg missing|`sandbox.image = "torch"` has them',
        ),
        ({"gpu": "a100"}, "sandbox.gpu", "a GPU class of the cluster: A100|Did you mean `A100`?"),
        (
            {"gpu": ["A100", "H200"]},
            "sandbox.gpu",
            "found 'H200'|--set 'gpuClasses.H200.values={NVIDIA-H200,NVIDIA-H200-NVL}'",
        ),
        ({"volumes": [{"name": "wieghts", "path": "w"}]}, "sandbox.volumes[0].name", "`weights`?"),
        (
            {"volumes": [{"name": "data", "path": "d"}]},
            "sandbox.volumes[0].name",
            "weights, scratch, found 'data'|--set 'volumes.data.claim=CLAIM'",
        ),
        (
            {"volumes": [{"name": "weights", "path": "w", "read_only": False}]},
            "sandbox.volumes[0].read_only",
            "lets nobody write to weights|volumes.weights.readOnly=false",
        ),
        ({"docker_in_docker": True}, "sandbox.docker_in_docker", "privileged"),
        ({"jupyter_port": 8888}, "sandbox.jupyter_port", "`kubernetes`"),
    ],
)
def test_what_the_chart_does_not_offer(
    api: FakeApi, sandbox: dict[str, Any], key: str, told: str
) -> None:
    said = refused(api, **sandbox)
    assert said.startswith(f"e.toml: {key}: expected")
    assert all(words in said for words in told.split("|")), said
    assert api.requests == []


def test_volumes_that_the_chart_has(api: FakeApi) -> None:
    volumes = [
        {"name": "weights", "path": "w"},
        {"name": "scratch", "path": "/data", "read_only": False},
    ]
    assert resolved(api, volumes=volumes)


def test_all_that_the_chart_does_not_offer_is_told(api: FakeApi) -> None:
    said = refused(api, image="x", gpu="B200", volumes=[{"name": "y", "path": "y"}], debug=True)
    for key in ("image", "gpu", "volumes[0].name", "debug"):
        assert f"e.toml: sandbox.{key}: expected" in said


# -- what the namespace does not have ----------------------------------------------------------


def test_all_missing_secrets_are_told_with_what_sets_them(api: FakeApi) -> None:
    del api.objects[f"/api/v1/namespaces/{SPACE}/secrets/runner-secrets"]["data"][
        "ANTHROPIC_API_KEY"
    ]
    named = {"named": {"WANDB_KEY": {"secret": "wandb", "key": "token"}}}
    said = refused(api, cluster(secrets=named), secrets=["HF_TOKEN", "EMPTY", "OTHER", "WANDB_KEY"])
    assert f"cannot start in namespace {SPACE}" in said
    for name in ("ANTHROPIC_API_KEY", "EMPTY", "OTHER"):
        assert f"{name}: the Secret runner-secrets has no value of the key {name}" in said
        assert f"→ runner secrets set {name}" in said
    assert "sandbox.secrets WANDB_KEY: there is no Secret wandb" in said
    assert "HF_TOKEN" not in said
    assert "c2VjcmV0" not in said


def test_a_models_secret_has_to_be_there_too(api: FakeApi) -> None:
    models = [
        {"name": "a/b", "secret": "EMPTY"},
        {"name": "c", "secret": "HF_TOKEN"},
        {"name": "d"},
    ]
    said = refused(api, models=models)
    assert "sandbox.models EMPTY: the Secret runner-secrets has no value of the key EMPTY" in said
    assert "HF_TOKEN" not in said


def test_models_are_looked_up_where_the_pods_fetch_them(api: FakeApi) -> None:
    assert resolved(api, models=["a/b"]).hub == "https://huggingface.co"
    mirror = {"env": {"HF_ENDPOINT": "https://hub.lab.example"}}
    assert resolved(api, cluster(pods=mirror), models=["a/b"]).hub == "https://hub.lab.example"


def test_a_sandbox_alone_needs_no_key_of_the_model(api: FakeApi) -> None:
    api.put("secrets", "runner-secrets", data={})
    found = resolve(
        api, cluster(), experiment(), agent=False, file="e.toml", progress=lambda _: None
    )
    assert found.images


def test_what_may_not_be_read_is_not_checked_and_said() -> None:
    space = f"/api/v1/namespaces/{SPACE}"
    api = FakeApi(forbidden=(f"{space}/secrets", "/api/v1/nodes", f"{space}/resourcequotas"))
    fill(api)
    said: list[str] = []
    assert resolved(api, said=said, memory="900Gi", secrets=["NOWHERE"])
    (line,) = said
    assert "Secret runner-secrets" in line


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pods": {"serviceAccount": "gone"}}, "there is no ServiceAccount gone|helm upgrade"),
        (
            {"images": {**cluster().images.model_dump(by_alias=True), "pullSecrets": ["reg"]}},
            "images.pullSecrets: there is no Secret reg|docker-registry reg",
        ),
        ({"network": {"caBundle": "ca"}}, "network.caBundle: there is no ConfigMap ca|--from-file"),
        ({"records": {"claim": "gone"}}, "records.claim: there is no PersistentVolumeClaim gone"),
        ({"cacheClaim": "gone"}, "cache: there is no PersistentVolumeClaim gone"),
        (
            {"records": {"s3": {"url": "s3://bucket", "secret": "runner-secrets"}}},
            "the Secret runner-secrets has no value of the key AWS_ACCESS_KEY_ID, AWS_SECRET",
        ),
        ({"pods": {"runtimeClassName": "kata"}}, "there is no RuntimeClass kata in the cluster"),
        ({"queue": {"name": "team"}}, "there is no LocalQueue team|Kueue is not installed"),
    ],
)
def test_a_broken_chart(api: FakeApi, changes: dict[str, Any], told: str) -> None:
    said = refused(api, cluster(**changes))
    assert all(words in said for words in told.split("|")), said


def test_the_git_secret_matters_to_repositories_alone(api: FakeApi) -> None:
    given = cluster(secrets={"git": "runner-secrets"})
    assert resolved(api, given)
    said = refused(api, given, repos=["https://git.example.org/a/b"])
    assert "secrets.git: the Secret runner-secrets has none of the keys token, ssh-priv" in said


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ({"status": {"phase": "Lost"}}, "has lost its volume"),
        ({"metadata": {"deletionTimestamp": "2027-01-01T00:00:00Z"}}, "is being deleted"),
    ],
)
def test_a_claim_that_will_not_do(api: FakeApi, claim: dict[str, Any], told: str) -> None:
    api.put("persistentvolumeclaims", "lab-weights", **claim)
    said = refused(api, volumes=[{"name": "weights", "path": "w"}])
    assert f"the claim lab-weights {told}" in said


def test_a_claim_that_waits_for_its_first_pod_will_do(api: FakeApi) -> None:
    api.put("persistentvolumeclaims", "runner-records", status={"phase": "Pending"})
    assert resolved(api)


def test_queues(api: FakeApi) -> None:
    api.objects["/apis/kueue.x-k8s.io"] = {
        "preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta9"}
    }
    queue = "/apis/kueue.x-k8s.io/v1beta9/namespaces/team/localqueues/gpu"
    api.objects[queue] = {"metadata": {"name": "gpu"}}
    assert resolved(api, queue="gpu")
    assert "no LocalQueue big in namespace team; there is gpu" in refused(api, queue="big")
    said = refused(api, queue="gpu", priority="high")
    assert "sandbox.priority: there is no WorkloadPriorityClass high in the cluster" in said
    assert "there is no PriorityClass high in the cluster" in refused(api, priority="high")


# -- rights ------------------------------------------------------------------------------------

RESEARCHER = [
    {"verbs": ["create", "get", "list", "patch", "delete"], "apiGroups": ["batch"], "resources": ["jobs"]},
    {"verbs": ["create", "get", "list", "delete"], "apiGroups": [""], "resources": ["pods"]},
    {"verbs": ["create", "get"], "apiGroups": [""], "resources": ["secrets", "configmaps"]},
    {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log", "*/exec"]},
    {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/portforward"]},
]  # fmt: skip


def test_a_researchers_rights_are_enough() -> None:
    api = FakeApi(rules=RESEARCHER)
    fill(api)
    assert resolved(api)
    assert [path for _, path in api.requests if "accessreview" in path] == []


def test_missing_rights_are_told_at_once() -> None:
    viewer = [{"verbs": ["get", "list"], "apiGroups": ["*"], "resources": ["*"]}]
    one_job = {**RESEARCHER[0], "resourceNames": ["mine"]}
    api = FakeApi(rules=[*viewer, one_job])
    said = refused(api)
    assert "in namespace team jane may not create jobs.batch, patch jobs.batch" in said
    assert "create configmaps" in said
    assert "list pods" not in said
    assert "kubectl create rolebinding" in said
    assert "--user 'jane'" in said


def test_rights_that_the_review_of_rules_does_not_tell() -> None:
    api = FakeApi(rules=RESEARCHER[1:])
    fill(api)
    api.allowed = {(verb, "batch", "jobs") for verb in ("create", "list", "patch", "delete")}
    assert resolved(api)


# -- room --------------------------------------------------------------------------------------


def test_what_no_node_and_no_quota_could_hold(api: FakeApi) -> None:
    hard = {"requests.nvidia.com/gpu": "4", "requests.memory": "2Ti"}
    api.put("resourcequotas", "team", spec={"hard": hard})
    said = refused(api, gpu="A100", gpu_count=16, memory="900Gi")
    assert "the run needs memory 900.5Gi" in said
    assert "the largest node for it has 512Gi" in said
    assert "the run needs nvidia.com/gpu 16, with all its containers" in said
    assert "ResourceQuota team never allows more than 4" in said
    assert "ask for less in sandbox.gpu_count" in said


def test_no_node_has_the_gpu_class(api: FakeApi) -> None:
    given = cluster(gpuClasses={"H100": {"values": ["NVIDIA-H100-NVL"]}})
    said = refused(api, given, gpu="H100")
    assert "nvidia.com/gpu.product = NVIDIA-H100-NVL: the nodes have NVIDIA-A100-SXM4-80GB" in said


def test_nodes_that_come_when_they_are_needed(api: FakeApi) -> None:
    classes = {"H100": {"values": ["NVIDIA-H100-NVL"]}}
    assert "NVIDIA-H100-NVL" in refused(api, cluster(gpuClasses=classes), gpu="H100")
    given = cluster(gpuClasses=classes, autoscaling=True)
    assert resolved(api, given, gpu="H100").images is not None


def test_a_limit_range_is_counted(api: FakeApi) -> None:
    item = {"type": "Container", "max": {"memory": "4Gi"}}
    api.put("limitranges", "team", spec={"limits": [item]})
    assert "container sandbox needs memory 8Gi" in refused(api)


# -- records -----------------------------------------------------------------------------------


def plan(images: PlannedImages | None, python: str = "3.13.4", **sandbox: Any) -> RunPlan:
    return RunPlan(
        run_id="x-261123-0907-x7k2",
        name="x",
        author="jane",
        created="2026-11-23T09:07:00Z",
        backend="kubernetes",
        experiment=experiment(**sandbox),
        python=python,
        packages=("ipykernel==7.4.0", "numpy==2.0.0"),
        images=images,
        prepare_deadline_s=60,
        start_deadline_s=60,
    )


def test_a_record_keeps_its_images_and_packages(api: FakeApi) -> None:
    images = PlannedImages(sandbox="old@sha256:1", agent="old@sha256:2", python="/python")
    found = allowed(api, cluster(), plan(images, image="no-more"), file="runs/x")
    assert (found.images, found.python) == (images, "3.13.4")
    assert found.packages == ("ipykernel==7.4.0", "numpy==2.0.0")


def test_a_record_from_another_backend_gets_an_image(api: FakeApi) -> None:
    found = allowed(api, cluster(), plan(None), file="runs/x")
    assert found.images is not None
    assert found.images.sandbox.startswith("registry.example.org/new@")
    assert found.python == "3.13.1"
    assert found.images.packages == ("ipykernel==7.4.0",)
    assert found.packages == ("ipykernel==7.4.0", "numpy==2.0.0")


def test_a_record_that_this_cluster_cannot_carry_out(api: FakeApi) -> None:
    with pytest.raises(ConfigError, match=r"runs/x: sandbox.python_version: expected a Python"):
        allowed(api, cluster(), plan(None, "3.12.1"), file="runs/x")
    with pytest.raises(ConfigError, match="sandbox.gpu"):
        allowed(api, cluster(), plan(None, gpu="B200"), file="runs/x")
    with pytest.raises(UsageError, match="has no value of the key OTHER"):
        allowed(api, cluster(), plan(None, secrets=["OTHER"]), file="runs/x")


# -- the chart's settings ----------------------------------------------------------------------


def settings(api: FakeApi, text: str) -> None:
    api.put("configmaps", "runner-settings", data={"settings.json": text})


def test_the_settings_are_read(api: FakeApi) -> None:
    settings(api, cluster().model_dump_json(by_alias=True))
    assert load_cluster(api) == cluster()


def test_a_chart_that_is_not_installed(api: FakeApi) -> None:
    api.put("namespaces", SPACE)
    with pytest.raises(UsageError, match="chart is not installed in namespace team") as caught:
        load_cluster(api)
    assert "helm install runner charts/runner --namespace team" in caught.value.hint


class Blind(FakeApi):
    def _get(self, path: str, body: Any) -> dict[str, Any]:
        if path == f"/api/v1/namespaces/{SPACE}":
            raise Forbidden("no")
        return super()._get(path, body)


def test_a_namespace_that_may_not_be_looked_at() -> None:
    with pytest.raises(UsageError, match="or there is no such namespace"):
        load_cluster(Blind())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schemaVersion": 2, "chartVersion": "9.1"}, "the chart 9.1, in schema 2; runner"),
        ({"gpuClasses": {}}, "gpuClasses: expected one GPU class at least"),
        ({"gpuClasses": {"A100": {"values": "x"}}}, "gpuClasses.A100.values: expected a list"),
        ({"images": {"agent": "x", "catalogue": []}}, "images.catalogue"),
        ({"later": 1, "chartVersion": "9.1"}, "later: expected a known key|the chart is 9.1"),
        ({"records": {"s3": {"url": "http://x", "secret": "s"}}}, "records.s3.url"),
    ],
)
def test_settings_that_are_wrong(api: FakeApi, change: dict[str, Any], told: str) -> None:
    data = json.loads(cluster().model_dump_json(by_alias=True))
    settings(api, json.dumps({**data, **change}))
    with pytest.raises(UsageError) as caught:
        load_cluster(api)
    assert "ConfigMap team/runner-settings" in str(caught.value)
    assert all(words in str(caught.value) for words in told.split("|")), str(caught.value)


def test_settings_that_are_no_settings(api: FakeApi) -> None:
    settings(api, "{")
    with pytest.raises(UsageError, match=r"settings.json is no JSON"):
        load_cluster(api)
    settings(api, "[]")
    with pytest.raises(UsageError, match=r"settings.json is no JSON object"):
        load_cluster(api)
    api.put("configmaps", "runner-settings", data={})
    with pytest.raises(UsageError, match=r"has no key settings.json"):
        load_cluster(api)
