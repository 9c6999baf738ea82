"""What a lab's cluster offers, as its admin wrote it into the chart's values.

The chart puts these values into the ConfigMap `runner-settings`, as JSON in the
key `settings.json`, with the spelling of Kubernetes (camelCase). A client reads
it from its namespace, so that a researcher configures nothing. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from runner.config.parts import Table
from runner.config.quantities import Cpu, Duration, Size
from runner.config.refuse import refuse
from runner.names import is_name

CONFIG_MAP = "runner-settings"
KEY = "settings.json"

GPU_RESOURCE = "nvidia.com/gpu"
GPU_LABEL = "nvidia.com/gpu.product"


class Camel(Table):
    """A table in the spelling of Kubernetes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Image(Camel):
    """A prebuilt image of the catalogue."""

    name: str = Field(min_length=1, description="What experiments call it.")
    image: str = Field(min_length=1, description="Reference by digest.")
    python: str = Field(min_length=1, description="Path of the kernel's Python in it.")
    python_version: str = Field(min_length=1, description="Version of that Python.")
    packages: tuple[str, ...] = Field(
        default=(), description="What that Python has, as `name==version`."
    )
    system_packages: tuple[str, ...] = Field(
        default=(), description="Debian packages and commands that experiments may ask for."
    )
    gpu: bool = Field(default=False, description="Whether it has CUDA.")


class Images(Camel):
    """Where images come from."""

    agent: str = Field(min_length=1, description="The agent's image, by digest.")
    client: str | None = Field(
        default=None, description="The client's image, by digest, which `helm test` runs in."
    )
    catalogue: tuple[Image, ...] = Field(
        min_length=1, description="Images of sandboxes; the first is the default."
    )
    pull_secrets: tuple[str, ...] = Field(default=(), description="Names of imagePullSecrets.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="imagePullPolicy of all containers."
    )


class Toleration(Camel):
    """A taint that a pod may stand, as a pod's spec has it."""

    key: str | None = Field(default=None, description="Key of the taint; every one if left out.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Exists", description="Whether the value matters."
    )
    value: str | None = Field(default=None, description="Value of the taint, for `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every one if left out."
    )
    toleration_seconds: int | None = Field(
        default=None, description="How long a `NoExecute` taint is stood."
    )


class GpuClass(Camel):
    """Which nodes have GPUs of a class, and how they are asked for."""

    values: tuple[str, ...] = Field(min_length=1, description="Values of the node label.")
    label: str = Field(default=GPU_LABEL, description="The node label that tells the product.")
    resource: str = Field(default=GPU_RESOURCE, description="The extended resource.")
    tolerations: tuple[Toleration, ...] = Field(
        default=(Toleration(key=GPU_RESOURCE, effect="NoSchedule"),),
        description="Taints of the GPU nodes.",
    )
    runtime_class_name: str | None = Field(
        default=None, description="RuntimeClass, where the lab's GPU operator needs one."
    )


class SecretKey(Camel):
    """Where in the namespace a secret's value is."""

    secret: str = Field(min_length=1, description="Name of the Secret.")
    key: str = Field(min_length=1, description="Key in it.")


class Secrets(Camel):
    """Which Kubernetes Secrets hold what experiments name."""

    default: str = Field(
        default="runner-secrets", description="The Secret whose keys are secrets' own names."
    )
    named: Mapping[str, SecretKey] = Field(
        default={}, description="Secrets that are elsewhere, by the name experiments use."
    )
    git: str | None = Field(
        default=None,
        description="A Secret for private repositories, seen by the clone container only: "
        "`token` (https) or `ssh-privatekey` and `known_hosts`.",
    )

    def where(self, name: str) -> SecretKey:
        """The Secret and the key of a secret's name."""
        return self.named.get(name) or SecretKey(secret=self.default, key=name)


class S3(Camel):
    """An S3-compatible store."""

    url: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="s3://bucket/prefix")
    endpoint_url: str | None = Field(default=None, description="Where it is, if not at AWS.")
    region: str | None = Field(default=None, description="Region of the bucket.")
    secret: str = Field(
        min_length=1, description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


class Records(Camel):
    """Where records are kept: a claim, or S3."""

    claim: str | None = Field(default=None, description="PersistentVolumeClaim, ReadWriteMany.")
    s3: S3 | None = Field(default=None, description="An S3-compatible store, instead of a claim.")


class Claim(Camel):
    """A PersistentVolumeClaim, or a directory in one."""

    claim: str = Field(min_length=1, description="Name of the PersistentVolumeClaim.")
    sub_path: str | None = Field(
        default=None, description="Directory in it; all of it if left out."
    )
    read_only: bool = Field(default=True, description="Whether no sandbox can write there.")


class Network(Camel):
    """What pods need to reach the outside."""

    policies: bool = Field(default=True, description="Whether the chart made NetworkPolicies.")
    ca_bundle: str | None = Field(
        default=None, description="ConfigMap whose key `ca.crt` holds all CAs that are trusted."
    )
    http_proxy: str | None = Field(default=None, description="URL of the proxy for http://.")
    https_proxy: str | None = Field(default=None, description="URL of the proxy for https://.")
    no_proxy: str | None = Field(
        default=None, description="Hosts that are reached without a proxy, with commas between."
    )


class Resources(Camel):
    """What a sandbox gets where the experiment does not say, and the small containers always."""

    cpu: Cpu = Field(default="2", description="Cores of a sandbox.")
    memory: Size = Field(default="8Gi", description="Memory of a sandbox.")
    disk: Size = Field(default="20Gi", description="Space for the workspace.")
    shm: Size = Field(default="1Gi", description="Size of /dev/shm, which is memory.")
    agent_cpu: Cpu = Field(default="250m", description="Cores of each of the other containers.")
    agent_memory: Size = Field(
        default="512Mi", description="Memory of each of the other containers."
    )


class Queue(Camel):
    """Kueue, where it is installed."""

    name: str | None = Field(default=None, description="LocalQueue of runs that name none.")
    priority_class: str | None = Field(
        default=None, description="WorkloadPriorityClass of runs that name none."
    )


class Pods(Camel):
    """What every pod of a run gets besides."""

    labels: Mapping[str, str] = Field(default={}, description="Labels that every pod gets.")
    annotations: Mapping[str, str] = Field(
        default={}, description="Annotations that every pod gets."
    )
    node_selector: Mapping[str, str] = Field(
        default={}, description="Labels of the nodes that runs may be on."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), description="Taints that every pod stands."
    )
    runtime_class_name: str | None = Field(
        default=None, description="RuntimeClass of pods, where their GPU class names none."
    )
    host_users: bool | None = Field(
        default=None, description="False: each pod in a user namespace of its own."
    )
    service_account: str = Field(
        default="runner-pod", description="ServiceAccount of pods, without any right."
    )
    termination_grace_s: int = Field(
        default=60, ge=5, description="Seconds that a pod has to end by itself."
    )
    env: Mapping[str, str] = Field(
        default={},
        description="Variables of clone, models and install: package indexes, HF_ENDPOINT (which "
        "the sandbox gets too).",
    )


def _gpu_classes(classes: Mapping[str, GpuClass]) -> Mapping[str, GpuClass]:
    if not classes:
        raise refuse("one GPU class at least")
    return classes


def _volume_names(volumes: Mapping[str, Claim]) -> Mapping[str, Claim]:
    for name in volumes:
        if not is_name(name):
            raise refuse("names of lower case letters, digits and `-`", found=repr(name[:60]))
    return volumes


class Cluster(Camel):
    """A lab's cluster: everything of the chart's values that a run depends on."""

    schema_version: Literal[1] = Field(default=1, description="What these keys mean.")
    chart_version: str = Field(default="", description="Version of the chart that wrote this.")
    images: Images = Field(description="Where images come from.")
    gpu_classes: Annotated[Mapping[str, GpuClass], AfterValidator(_gpu_classes)] = Field(
        description="Which nodes have which GPUs, by the name experiments use."
    )
    secrets: Secrets = Field(
        default=Secrets(), description="Which Kubernetes Secrets hold what experiments name."
    )
    records: Records = Field(default=Records(), description="Where records are kept.")
    cache_claim: str | None = Field(
        default=None,
        description="Claim for the caches of models and Python packages, ReadWriteMany.",
    )
    volumes: Annotated[Mapping[str, Claim], AfterValidator(_volume_names)] = Field(
        default={}, description="Claims that experiments may mount, by the name they use."
    )
    network: Network = Field(default=Network(), description="What pods need to reach the outside.")
    resources: Resources = Field(
        default=Resources(), description="What a run gets where its experiment does not say."
    )
    queue: Queue = Field(default=Queue(), description="Kueue, where it is installed.")
    pods: Pods = Field(default=Pods(), description="What every pod of a run gets besides.")
    job_ttl: Duration = Field(
        default=86400.0, description="How long a Job that ended stays; its record stays on."
    )
    autoscaling: bool = Field(
        default=False,
        description="Whether nodes come when they are needed: then a GPU class or a size that no "
        "node has now is not refused.",
    )
    gpu_hour_usd: float | None = Field(
        default=None, ge=0, description="What an hour of one GPU costs the lab, in dollars."
    )
    gpu_idle_timeout: Duration | None = Field(
        default=None,
        description="How long all GPUs of a run may be unused before it is wound up; an experiment "
        "may say less. No such bound if left out; the chart's default is two hours.",
    )


def example(**changes: Any) -> Cluster:
    """A small cluster: what the samples in k8s/ are made for."""
    data: dict[str, Any] = {
        "images": {
            "agent": "registry.example.org/runner/agent@sha256:" + "a" * 64,
            "catalogue": [
                {
                    "name": "base",
                    "image": "registry.example.org/runner/base@sha256:" + "b" * 64,
                    "python": "/opt/python/bin/python",
                    "pythonVersion": "3.11.2",
                    "packages": ["numpy==2.3.5", "pandas==2.3.3", "matplotlib==3.10.7"],
                    "systemPackages": ["git"],
                }
            ],
        },
        "gpuClasses": {"A100": {"values": ["NVIDIA-A100-SXM4-80GB"]}},
        "records": {"claim": "runner-records"},
    }
    return Cluster.model_validate({**data, **changes})
