"""Environment variables of a run's containers. Secrets by name: each in the one that needs it.

What the experiment sets (`sandbox.env`) is not here: it is in the plan, and the sandbox
server gives it to the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner import hidden
from runner.backends.kubernetes.manifests.amounts import Amounts
from runner.cluster import S3, Cluster
from runner.config.quantities import amount
from runner.plan import RunPlan
from runner.pod import layout
from runner.pod.variables import READ_ONLY, caches, network, secrets_of

_FIELDS = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_UID": "metadata.uid",
    "NODE_NAME": "spec.nodeName",
    "RUNNER_JOB": "metadata.labels['batch.kubernetes.io/job-name']",
}

Entry = dict[str, Any]


def environment(container: str, plan: RunPlan, cluster: Cluster, given: Amounts) -> list[Entry]:
    """The variables of one container, each once; a secret that has the name of ours wins."""
    own = cluster.network
    plain = network(own.http_proxy, own.https_proxy, own.no_proxy, ca_bundle=bool(own.ca_bundle))
    if container in READ_ONLY:
        plain |= {"HOME": str(layout.TMP), "PYTHONUNBUFFERED": "1"}
    if container in ("clone", "models", "install"):
        plain |= cluster.pods.env
    if container == "install" and cluster.cache_claim:
        plain |= {"UV_CACHE_DIR": str(layout.CACHE / "uv")}
    if container == "models":
        shared = cluster.cache_claim or hidden.any_in(plan)
        plain |= {"HF_HUB_CACHE": str(layout.MODELS if shared else layout.HUB)}
    if container == "sandbox":
        plain |= caches() | _bounds(given)
        hub = cluster.pods.env.get("HF_ENDPOINT")
        plain |= {"HF_ENDPOINT": hub} if hub else {}
    plain |= _nvidia(container, plan)
    entries = {name: {"name": name, "value": literal(value)} for name, value in plain.items()}
    if container in ("record", "agent"):
        entries |= _store(cluster, plan)
    if container == "record":
        entries["POD_UID"] = _field("POD_UID", _FIELDS["POD_UID"])
    if container == "agent":
        entries |= {name: _field(name, path) for name, path in _FIELDS.items()}
    entries |= {name: _secret(name, cluster) for name in secrets_of(container, plan)}
    return list(entries.values())


def literal(text: str) -> str:
    """`text` so that Kubernetes leaves it as it is: it expands `$(NAME)`, and makes `$$` a `$`."""
    return text.replace("$", "$$")


def _bounds(given: Amounts) -> dict[str, str]:
    """What the server cannot see from inside; the memory's limit it can."""
    return {"RUNNER_DISK_BYTES": str(math.ceil(amount(given.disk)))}


def _nvidia(container: str, plan: RunPlan) -> dict[str, str]:
    """CUDA images ask for all GPUs of the node: `void` where there is to be none.

    With a GPU the device plugin names it, so the variable must not be set then.
    """
    if container == "sandbox" and plan.experiment.sandbox.gpu:
        return {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {"NVIDIA_VISIBLE_DEVICES": "void"}


def _store(cluster: Cluster, plan: RunPlan) -> dict[str, Entry]:
    """How a record in S3 is reached; one on a claim is mounted."""
    s3 = cluster.records.s3
    if s3 is None:
        return {}
    plain = {
        "RUNNER_RECORD_URL": f"{s3.url.rstrip('/')}/{plan.run_id}",
        **({"AWS_ENDPOINT_URL": s3.endpoint_url} if s3.endpoint_url else {}),
        **({"AWS_DEFAULT_REGION": s3.region} if s3.region else {}),
    }
    entries: dict[str, Entry] = {
        name: {"name": name, "value": literal(value)} for name, value in plain.items()
    }
    return entries | _keys(s3)


def _keys(s3: S3) -> dict[str, Entry]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {name: _from_secret(name, s3.secret, name) for name in names}


def _secret(name: str, cluster: Cluster) -> Entry:
    where = cluster.secrets.where(name)
    return _from_secret(name, where.secret, where.key)


def _from_secret(name: str, secret: str, key: str) -> Entry:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _field(name: str, path: str) -> Entry:
    field: Mapping[str, str] = {"fieldPath": path}
    return {"name": name, "valueFrom": {"fieldRef": field}}
