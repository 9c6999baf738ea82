"""The chart as text: its values, what they become, and what is refused. Needs helm alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from chart_parts import (
    CHART,
    IMAGES,
    OPTIONS,
    TOGETHER,
    find,
    merged,
    render,
    template,
    told,
    values,
)
from pydantic import BaseModel

import runner
from runner.cluster import (
    CONFIG_MAP,
    KEY,
    S3,
    Claim,
    Cluster,
    GpuClass,
    Image,
    Images,
    Pods,
    Queue,
    Resources,
    Secrets,
    Toleration,
)
from runner.settings import GPU_CLASSES

pytestmark = pytest.mark.cluster

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def settings(*names: str) -> Cluster:
    """What a client reads from the namespace."""
    text = find(render(values(*names)), "ConfigMap", CONFIG_MAP)["data"][KEY]
    return Cluster.model_validate_json(text)


@pytest.mark.parametrize("names", [(), *((name,) for name in OPTIONS), tuple(TOGETHER)])
def test_lint_and_settings(names: tuple[str, ...], tmp_path: Any) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values(*names)))
    ran = told("lint", "--strict", CHART, "--values", file)
    assert ran.returncode == 0, ran.stdout
    assert "WARNING" not in ran.stdout
    assert settings(*names).images.agent == IMAGES["images"]["agent"]


def test_defaults_are_those_of_the_code() -> None:
    found = settings()
    assert {name: one.values for name, one in found.gpu_classes.items()} == dict(GPU_CLASSES)
    assert set(found.gpu_classes.values()) == {
        GpuClass(values=products) for products in GPU_CLASSES.values()
    }
    assert found.resources == Resources()
    assert found.pods == Pods()
    assert found.secrets == Secrets()
    assert (found.job_ttl, found.gpu_hour_usd) == (86400.0, None)
    assert found.gpu_idle_timeout == 7200.0
    assert (found.records.claim, found.cache_claim) == ("runner-records", None)
    assert found.network.ca_bundle is None


def test_every_value_reaches_the_clients() -> None:
    one = settings("gpu-class", "secrets", "claims", "proxy", "pods", "queue", "images")
    assert one.gpu_classes["A100"].runtime_class_name == "nvidia"
    assert one.gpu_classes["A100"].tolerations[0].toleration_seconds == 5
    assert "T4" not in one.gpu_classes
    assert (one.gpu_hour_usd, one.gpu_idle_timeout) == (2.5, None)
    assert one.secrets.where("HF_TOKEN").secret == "huggingface"
    assert one.secrets.where("OTHER").secret == "keys"
    assert one.secrets.git == "git-credentials"
    assert (one.records.claim, one.cache_claim) == ("kept", "runner-cache")
    assert one.network.ca_bundle == "lab-ca"
    assert one.network.no_proxy == ".example.org"
    assert (one.resources.cpu, one.resources.memory) == ("4", "16Gi")
    assert one.pods.annotations["note"] == 'a "quoted"\nnote'
    assert (one.pods.host_users, one.pods.termination_grace_s) == (False, 90)
    assert one.job_ttl == 36 * 3600
    assert (one.queue.name, one.queue.priority_class) == ("runs", "normal")
    assert one.images.pull_secrets == ("lab-registry",)
    other = settings("s3", "existing-claims", "ca")
    assert other.records.s3 is not None
    assert other.records.s3.endpoint_url == "https://s3.example.org"
    assert other.records.claim is None
    assert other.cache_claim == "cache"
    assert other.volumes["checkpoints"].sub_path == "gpt2"
    assert not other.volumes["checkpoints"].read_only
    assert other.network.ca_bundle == "runner-ca"


def camel(model: type[BaseModel]) -> set[str]:
    return {str(field.alias) for field in model.model_fields.values()}


@pytest.mark.parametrize(
    ("path", "model", "not_in_values"),
    [
        ("images", Images, set()),
        ("images.catalogue", Image, set()),
        ("gpuClasses.*", GpuClass, set()),
        ("gpuClasses.*.tolerations", Toleration, set()),
        ("secrets", Secrets, set()),
        ("records.s3", S3, set()),
        ("volumes.*", Claim, set()),
        ("resources", Resources, set()),
        ("queue", Queue, set()),
        # The chart makes it, under this name.
        ("pods", Pods, {"serviceAccount"}),
    ],
)
def test_schema_knows_the_fields_of_the_code(
    path: str, model: type[BaseModel], not_in_values: set[str]
) -> None:
    node = SCHEMA
    for step in path.split("."):
        node = node["additionalProperties"] if step == "*" else node["properties"][step]
        while "$ref" in node or "items" in node:
            node = node["items"] if "items" in node else definition(node["$ref"])
    chart_only = {"create"} if path == "secrets" else set()
    assert set(node["properties"]) - chart_only == camel(model) - not_in_values


def definition(ref: str) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA["definitions"][ref.rpartition("/")[2]]
    return found


def tables(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "properties" in node or node.get("type") == "object":
            yield path, node
        for key, value in node.items():
            yield from tables(value, f"{path}/{key}")
    elif isinstance(node, list):
        for n, value in enumerate(node):
            yield from tables(value, f"{path}/{n}")


def test_schema_is_closed_on_every_level() -> None:
    found = dict(tables(SCHEMA))
    assert len(found) > 30
    open_ones = [path for path, node in found.items() if "additionalProperties" not in node]
    assert open_ones == ["/properties/global"]


def test_every_key_is_in_the_values_file() -> None:
    """Whoever reads values.yaml has seen every key of the schema, also those without a default."""
    text = (CHART / "values.yaml").read_text()
    assert set(DEFAULTS) <= set(SCHEMA["properties"])
    for path, node in tables(SCHEMA):
        if path.startswith("/definitions/toleration") or "/limits/" in path:
            continue  # Kubernetes' own
        for key in node.get("properties", ()):
            if key != "global":
                assert re.search(rf"\b{key}:", text), f"{path}: {key}"


@cache
def refusal(given: str) -> str:
    ran = template(merged(IMAGES, json.loads(given)))
    assert ran.returncode != 0, "was accepted"
    return ran.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nteworks": {}}, "'nteworks' not allowed"),
        ({"network": {"policy": True}}, "'policy' not allowed"),
        ({"network": {"policies": "yes"}}, "/network/policies': got string, want boolean"),
        ({"network": {"allow": [{"cdir": "10.0.0.0/8"}]}}, "'cdir' not allowed"),
        ({"network": {"allow": [{"ports": [1]}]}}, "/network/allow/0"),
        ({"network": {"allow": [{"cidr": "10.0.0.1"}]}}, "/network/allow/0/cidr"),
        ({"network": {"allow": [{"cidr": "10.0.0.0/8", "ports": [0]}]}}, "/allow/0/ports/0"),
        (
            {"network": {"allow": [{"cidr": "10.0.0.0/8", "podLabels": {"a": "b"}}]}},
            "/network/allow/0",
        ),
        (
            {"network": {"allow": [{"cidr": "10.0.0.0/8", "namespace": "a"}]}},
            "/network/allow/0",
        ),
        ({"network": {"dns": {"port": 53}}}, "'port' not allowed"),
        ({"network": {"caBundle": {"pem": "AA=="}}}, "/network/caBundle/pem"),
        ({"network": {"httpProxy": "proxy:3128"}}, "/network/httpProxy"),
        ({"images": {"agent": "runner/agent:latest"}}, "/images/agent"),
        ({"images": {"catalogue": []}}, "/images/catalogue"),
        ({"images": {"catalogue": [{"name": "base"}]}}, "missing properties 'image'"),
        ({"images": {"pullSecrets": "lab"}}, "/images/pullSecrets': got string, want array"),
        ({"gpuClasses": {"A100": {"value": "x"}}}, "/gpuClasses/A100': additional properties"),
        ({"gpuClasses": {"B200": {"values": []}}}, "/gpuClasses/B200/values"),
        ({"gpuHourUsd": "2.5"}, "/gpuHourUsd"),
        ({"gpuIdleTimeout": "never"}, "/gpuIdleTimeout"),
        ({"secrets": {"OPENROUTER_API_KEY": "sk"}}, "'OPENROUTER_API_KEY' not allowed"),
        ({"secrets": {"named": {"HF_TOKEN": "x"}}}, "/secrets/named/HF_TOKEN"),
        ({"records": {"s3": {"url": "bucket", "secret": "s"}}}, "/records/s3/url"),
        ({"records": {"s3": {"url": "s3://bucket"}}}, "missing property 'secret'"),
        ({"records": {"claim": {"size": "big"}}}, "/records/claim/size"),
        ({"records": {"claim": {"accessModes": "ReadWriteMany"}}}, "/records/claim/accessModes"),
        ({"records": {"retentionDays": 0}}, "/records/retentionDays"),
        ({"volumes": {"Models": {"claim": "x"}}}, "Models"),
        ({"volumes": {"models": {"claim": "x", "subPath": "/abs"}}}, "/volumes/models/subPath"),
        ({"resources": {"gpu": 1}}, "'gpu' not allowed"),
        ({"resources": {"memory": "lots"}}, "/resources/memory"),
        ({"pods": {"hostUsers": "false"}}, "/pods/hostUsers"),
        ({"pods": {"env": {"A": 1}}}, "/pods/env/A': got number, want string"),
        ({"pods": {"tolerations": [{"effect": "NoShedule"}]}}, "/pods/tolerations/0/effect"),
        ({"jobTtl": "tomorrow"}, "/jobTtl"),
        ({"queue": "runs"}, "/queue': got string, want object"),
        ({"rbac": {"researchers": [{"name": "x"}]}}, "missing property 'kind'"),
        ({"rbac": {"researchers": ["jane"]}}, "/rbac/researchers/0"),
        ({"clusterRole": {"create": "no"}}, "/clusterRole/create"),
        ({"quota": {"pods": "many"}}, "/quota/pods"),
        ({"limits": [{"type": "Contaner"}]}, "/limits/0/type"),
        ({"commonLabels": {"a": True}}, "/commonLabels/a"),
        ({"kueue": {"clusterQueue": "lab"}}, "queue.name"),
        ({"kueue": {"flavors": [{"name": "a", "quota": {"cpu": 1}}]}}, "kueue.clusterQueue"),
        (
            {
                "queue": {"name": "runs"},
                "kueue": {
                    "clusterQueue": "lab",
                    "flavors": [
                        {"name": "a", "quota": {"cpu": 1, "memory": "1Gi"}},
                        {"name": "b", "quota": {"cpu": 1}},
                    ],
                },
            },
            "kueue.flavors: b has to name the same resources as the first one: cpu, memory",
        ),
        (merged(OPTIONS["s3"], OPTIONS["retention"]), "records.retentionDays"),
        (
            {"network": {"caBundle": {"configMap": "x", "pem": "-----BEGIN CERTIFICATE-----"}}},
            "network.caBundle",
        ),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(given: dict[str, Any], words: str) -> None:
    assert words in refusal(json.dumps(given))


def test_images_have_to_be_given() -> None:
    ran = template({})
    assert ran.returncode != 0
    assert "missing properties 'agent', 'client', 'catalogue'" in ran.stderr


def test_records_and_secrets_outlive_the_release() -> None:
    objects = render(values("claims"))
    kept = [
        (thing["kind"], thing["metadata"]["name"])
        for thing in objects
        if thing["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    ]
    assert sorted(kept) == [
        ("NetworkPolicy", "runner-deny"),
        ("NetworkPolicy", "runner-run"),
        ("PersistentVolumeClaim", "kept"),
        ("PersistentVolumeClaim", "runner-cache"),
        ("Secret", "runner-secrets"),
        ("ServiceAccount", "runner-pod"),
    ]
    # What the chart writes into it, an upgrade would write again.
    assert not {"data", "stringData"} & set(find(objects, "Secret", "runner-secrets"))


def test_nothing_of_the_whole_cluster_without_being_asked() -> None:
    assert all(thing["metadata"].get("namespace") == "team" for thing in render(values()))
    asked = render(values("people", "flavors"))
    outside = {x["kind"] for x in asked if "namespace" not in x["metadata"]}
    assert outside == {"ClusterRole", "ClusterRoleBinding", "ClusterQueue", "ResourceFlavor"}


def test_every_object_is_labelled() -> None:
    for thing in render(values(*TOGETHER)):
        labels = thing["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "runner"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["team"] == "interpretability"
        assert thing["metadata"]["annotations"]["contact"] == "admin@example.org"


def test_nothing_of_the_test_stays_but_its_pod() -> None:
    for thing in render(values("people")):
        hook = thing["metadata"].get("annotations", {})
        if thing["metadata"]["labels"]["app.kubernetes.io/component"] != "test":
            assert "helm.sh/hook" not in hook
            continue
        assert hook["helm.sh/hook"] == "test"
        goes = {"hook-succeeded", "hook-failed"} <= set(
            hook["helm.sh/hook-delete-policy"].split(",")
        )
        assert goes == (thing["kind"] != "Pod")


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == runner.__version__
