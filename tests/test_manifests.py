from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from pods import containers, mounted, secret_names, spec, variables

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.samples import FOLDER, SAMPLES, plan, text
from runner.cluster import example
from runner.errors import UsageError
from runner.plan import PinnedModel, PinnedRepo, RunPlan

MODELS = [("lab/tiny", "a"), ("lab/tiny", "b"), ("lone", "c")]
BUSY = {
    "gpu": "A100",
    "repos": ["org/repo"],
    "secrets": ["HF_TOKEN"],
    "models": [{"name": "lab/tiny", "secret": "HUB_TOKEN"}],
    "volumes": [{"name": "models", "path": "/models"}],
}


def _repos(*, install: bool) -> tuple[Any, ...]:
    url = "https://example.org/org/repo"
    return (PinnedRepo(url=url, name="repo", ref=None, commit="0" * 40, install=install),)


def _models() -> tuple[PinnedModel, ...]:
    return tuple(
        PinnedModel(name=name, revision=None, commit=sign * 40, size=1, secret="HUB_TOKEN")
        for name, sign in MODELS
    )


# -- golden files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_file_is_what_the_code_makes(name: str) -> None:
    made = SAMPLES[name]()
    golden = (FOLDER / f"{name}.yaml").read_text("utf-8")
    assert golden == text(made), "run: python -m runner.backends.kubernetes.samples"
    assert list(yaml.safe_load_all(golden)) == made


def test_every_golden_file_is_a_sample() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(SAMPLES)
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in SAMPLES if f"`{name}.yaml`" not in readme] == []


# -- the Job -----------------------------------------------------------------------------------


def test_containers_come_in_the_order_in_which_they_are_needed() -> None:
    cluster = example(volumes={"models": {"claim": "m"}})
    busy = plan("busy", BUSY, packages=("pandas==2.3.3",)).model_copy(
        update={"repos": _repos(install=False), "models": _models()}
    )
    pod = spec(busy, cluster)
    order = ["record", "clone", "models", "install", "sandbox"]
    assert [c["name"] for c in pod["initContainers"]] == order
    assert [c["name"] for c in pod["containers"]] == ["agent"]
    assert [c["name"] for c in spec(plan("small", {}))["initContainers"]] == ["record", "sandbox"]


def test_install_is_there_only_for_what_the_image_lacks() -> None:
    there = plan("p", {}, packages=("numpy==2.3.5",))
    assert there.images is not None
    has = there.images.model_copy(update={"packages": ("numpy==2.3.5",)})
    assert "install" in containers(spec(there))
    assert "install" not in containers(spec(there.model_copy(update={"images": has})))
    editable = plan("p", {}).model_copy(update={"repos": _repos(install=True)})
    assert {"clone", "install"} <= set(containers(spec(editable)))


def test_sandbox_alone_is_the_main_container_and_is_not_replaced() -> None:
    job = manifests.job(plan("p", {}, agent=False), example(), 1)
    pod = job["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["containers"]] == ["sandbox"]
    assert "restartPolicy" not in pod["containers"][0]
    assert [c["name"] for c in pod["initContainers"]] == ["record"]
    assert job["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    assert "runner/model" not in job["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("on_disruption", "action"), [(None, "Ignore"), ("resume", "Ignore"), ("fail", "FailJob")]
)
def test_disruption(on_disruption: str | None, action: str) -> None:
    sandbox = {"on_disruption": on_disruption} if on_disruption else {}
    rules = manifests.job(plan("p", sandbox), example(), 1)["spec"]["podFailurePolicy"]["rules"]
    condition = {"type": "DisruptionTarget", "status": "True"}
    assert rules == [{"action": action, "onPodConditions": [condition]}]


def test_deadline_is_the_sum_of_all_that_may_take_time() -> None:
    made = plan("p", {"timeout": "2h"}, prepare_deadline_s=600, start_deadline_s=100)
    assert spec(made)["activeDeadlineSeconds"] == 1800 + 600 + 100 + 7200 + 900 + 60


def test_secrets_are_where_they_are_needed_and_nowhere_else() -> None:
    cluster = example(
        records={"s3": {"url": "s3://b/p", "secret": "s3-keys"}},
        secrets={"named": {"HF_TOKEN": {"secret": "hugging-face", "key": "t"}}, "git": "lab-git"},
        volumes={"models": {"claim": "m"}},
    )
    busy = plan("busy", BUSY, packages=("pandas==2.3.3",)).model_copy(
        update={"repos": _repos(install=True), "models": _models()}
    )
    found = containers(spec(busy, cluster))
    assert {name: secret_names(container) for name, container in found.items()} == {
        "record": {"s3-keys"},
        "clone": set(),
        "models": {"runner-secrets"},
        "install": set(),
        "sandbox": {"hugging-face"},
        "agent": {"s3-keys", "runner-secrets"},
    }
    assert [name for name, c in found.items() if "HUB_TOKEN" in variables(c)] == ["models"]
    assert [name for name, c in found.items() if "git" in mounted(c)] == ["clone"]
    assert [name for name, c in found.items() if "token" in mounted(c)] == ["sandbox", "agent"]


def test_who_may_write_what() -> None:
    cluster = example(cacheClaim="cache", volumes={"models": {"claim": "m"}})
    busy = plan("busy", BUSY, packages=("pandas==2.3.3",)).model_copy(
        update={"repos": _repos(install=True)}
    )
    found = containers(spec(busy, cluster))
    assert mounted(found["sandbox"]) == {
        "workspace": True,
        "state": True,
        "plan": False,
        "token": False,
        "shm": True,
        "tmp-sandbox": True,
        "venv": True,
        "lab-models": False,
    }
    assert {name for name, c in found.items() if "cache" in mounted(c)} == {"install"}
    assert mounted(found["agent"]) == {
        "state": False,
        "config": False,
        "token": False,
        "record": True,
        "tmp-agent": True,
    }
    read_only = {n: c["securityContext"]["readOnlyRootFilesystem"] for n, c in found.items()}
    assert [name for name, value in read_only.items() if not value] == ["sandbox"]


def test_sandbox_sees_its_own_models_of_the_cache_and_cannot_write_them() -> None:
    busy = plan("busy", {}).model_copy(update={"models": _models()})
    found = containers(spec(busy, example(cacheClaim="cache")))
    mounts = {
        name: [
            (mount["mountPath"], mount.get("subPath"), mount.get("readOnly", False))
            for mount in container["volumeMounts"]
            if mount["name"] == "cache"
        ]
        for name, container in found.items()
    }
    hub = "huggingface/hub"
    assert mounts == {
        "record": [],
        "models": [("/cache", None, False)],
        "sandbox": [
            (f"/cache/{hub}/models--lab--tiny", f"{hub}/models--lab--tiny", True),
            (f"/cache/{hub}/models--lone", f"{hub}/models--lone", True),
        ],
        "agent": [],
    }
    assert variables(found["models"])["HF_HUB_CACHE"] == f"/cache/{hub}"


def test_models_are_the_runs_own_where_there_is_no_cache() -> None:
    found = containers(spec(plan("p", {}).model_copy(update={"models": _models()})))
    home = variables(found["sandbox"])["HF_HOME"]
    assert variables(found["models"])["HF_HUB_CACHE"] == f"{home}/hub"
    assert mounted(found["models"])["workspace"]


def test_sandbox_sees_the_plan_but_not_the_record_with_the_score_script() -> None:
    pod = spec(plan("p", {}))
    by_name = {volume["name"]: volume for volume in pod["volumes"]}
    assert by_name["plan"]["configMap"]["items"] == [{"key": "plan.json", "path": "plan.json"}]
    assert not {"config", "record"} & set(mounted(containers(pod)["sandbox"]))


def test_gpu_is_seen_by_the_sandbox_alone() -> None:
    found = containers(spec(plan("p", {"gpu": "A100", "gpu_count": 2})))
    limits = {name: c["resources"]["limits"].get("nvidia.com/gpu") for name, c in found.items()}
    assert limits == {"record": None, "sandbox": "2", "agent": None}
    visible = {name: variables(c).get("NVIDIA_VISIBLE_DEVICES") for name, c in found.items()}
    assert visible == {"record": "void", "sandbox": None, "agent": "void"}
    assert variables(found["sandbox"])["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    without = containers(spec(plan("p", {})))["sandbox"]
    assert variables(without)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_amounts_are_the_experiments_else_the_clusters() -> None:
    given = containers(spec(plan("p", {})))["sandbox"]["resources"]
    assert given["requests"] == {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "20Gi"}
    assert given["limits"]["memory"] == "8Gi"
    assert "cpu" not in given["limits"]
    asked = plan("p", {"cpu": "1.5", "memory": "0.5Gi", "disk": "100Gi"})
    pod = spec(asked)
    own = containers(pod)["sandbox"]["resources"]
    assert own["requests"] == {"cpu": "1500m", "memory": "512Mi", "ephemeral-storage": "100Gi"}
    assert own["limits"]["cpu"] == "1500m"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["workspace"]["emptyDir"] == {"sizeLimit": "100Gi"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}
    told = variables(containers(pod)["sandbox"])
    assert told["RUNNER_DISK_BYTES"] == str(100 * 1024**3)


def test_the_way_to_the_sandbox_goes_past_the_proxy() -> None:
    cluster = example(network={"httpsProxy": "http://proxy:3128", "noProxy": ".lab, localhost"})
    for container in containers(spec(plan("p", {}), cluster)).values():
        found = variables(container)
        assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://proxy:3128"
        assert found["no_proxy"] == found["NO_PROXY"] == ".lab,localhost,127.0.0.1,::1"


def test_plan_without_images_is_no_plan_for_a_cluster() -> None:
    with pytest.raises(ValueError, match="names no images"):
        manifests.job(plan("p", {}).model_copy(update={"images": None}), example(), 1)


def test_cluster_without_a_record_store_is_refused() -> None:
    with pytest.raises(UsageError, match="no place for records"):
        manifests.job(plan("p", {}), example(records={}), 1)


# -- queue and priority ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sandbox", "queue", "patch", "pod_priority"),
    [
        ({}, {}, {"spec": {"suspend": False}}, None),
        ({"priority": "high"}, {}, {"spec": {"suspend": False}}, "high"),
        (
            {"priority": "high"},
            {"name": "lab", "priorityClass": "normal"},
            {
                "metadata": {
                    "labels": {
                        "kueue.x-k8s.io/queue-name": "lab",
                        "kueue.x-k8s.io/priority-class": "high",
                    }
                }
            },
            None,
        ),
        (
            {"queue": "own"},
            {"name": "lab"},
            {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "own"}}},
            None,
        ),
    ],
)
def test_release(
    sandbox: dict[str, Any], queue: dict[str, Any], patch: dict[str, Any], pod_priority: str | None
) -> None:
    made, cluster = plan("p", sandbox), example(queue=queue)
    assert manifests.released(cluster, made) == patch
    job = manifests.job(made, cluster, 1)
    assert job["spec"]["suspend"] is True
    assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]
    assert job["spec"]["template"]["spec"].get("priorityClassName") == pod_priority
    released = manifests.job(made, cluster, 1, suspended=False)
    assert released["spec"]["suspend"] is ("spec" not in patch)
    labels = {**job["metadata"]["labels"], **patch.get("metadata", {}).get("labels", {})}
    assert released["metadata"]["labels"] == labels


# -- the other objects -------------------------------------------------------------------------


def test_secret_and_config_map_go_with_the_job() -> None:
    made = plan("p", {})
    job = {"metadata": {"name": f"{made.run_id}-3", "uid": "1234"}}
    owner = manifests.owner_reference(job)
    secret = manifests.secret(made, 3, owner, "t0ken")
    config_map = manifests.config_map(made, 3, owner, b"\x1f\x8b\0", {"reason": "ü"})
    for item in (secret, config_map):
        assert item["metadata"]["name"] == f"{made.run_id}-3"
        assert item["metadata"]["ownerReferences"] == [owner]
    assert owner["uid"] == "1234"
    assert secret["stringData"] == {"token": "t0ken"}
    assert RunPlan.model_validate_json(config_map["data"]["plan.json"]) == made
    assert json.loads(config_map["data"]["agent.json"]) == {"reason": "ü"}
    assert base64.b64decode(config_map["binaryData"]["record.tar.gz"]) == b"\x1f\x8b\0"
    assert "t0ken" not in json.dumps(config_map)


def test_config_map_has_a_limit() -> None:
    made = plan("p", {})
    assert manifests.fits(manifests.config_map(made, 1, None, b"x" * (900 * 1024), {}))
    assert not manifests.fits(manifests.config_map(made, 1, None, b"x" * 1024**2, {}))


def test_store_pod_needs_a_claim() -> None:
    s3 = example(records={"s3": {"url": "s3://b", "secret": "s"}})
    with pytest.raises(UsageError, match="no claim"):
        manifests.store_pod("run", s3, name="run-store", seconds=60)
