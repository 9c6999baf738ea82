"""Names, labels and annotations: how `kubectl` and the backend find a run's objects."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from runner.cluster import Cluster
from runner.errors import UsageError
from runner.names import slug
from runner.plan import RunPlan

APP = "runner"
"""`app.kubernetes.io/name` of everything that is ours."""
RUN, STORE = "run", "store"
"""Components: of a run's own objects, and of pods that give access to its record."""

_AUTOSCALERS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""They move pods that look idle, as a GPU's does while the model thinks."""


def job_name(run_id: str, number: int) -> str:
    """Of the Job of a `submit` (1) or a `resume` (2 and on), its Secret and its ConfigMap."""
    return f"{run_id}-{number}"


def labels(run_id: str, component: str, cluster: Cluster | None = None) -> dict[str, str]:
    """What every object of a run is found by; with `cluster` also what its pods get besides."""
    return {
        **(cluster.pods.labels if cluster else {}),
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/instance": run_id,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": APP,
        "runner/run": run_id,
    }


def run_labels(plan: RunPlan, number: int, cluster: Cluster | None = None) -> dict[str, str]:
    """Of a Job and its pods: `kubectl get jobs -L runner/experiment,runner/owner`."""
    return {
        **labels(plan.run_id, RUN, cluster),
        "runner/experiment": plan.name,
        "runner/attempt": str(number),
        "runner/owner": owner_label(plan.author),
        **({"runner/sweep": plan.sweep.id} if plan.sweep else {}),
    }


def owner_label(author: str) -> str:
    """The author as a label may have it; the annotation of the same name has it verbatim."""
    if any(c.isascii() and c.isalnum() for c in unicodedata.normalize("NFKD", author)):
        return slug(author)
    return f"user-{sha256(author.encode()).hexdigest()[:8]}"


def run_annotations(plan: RunPlan, cluster: Cluster) -> dict[str, str]:
    """What a run tells of itself without its record."""
    model = plan.experiment.agent.model if plan.agent else None
    return {
        "runner/owner": plan.author,
        "runner/experiment": plan.name,
        "runner/created": plan.created,
        "runner/record": record_url(cluster, plan.run_id),
        "runner/agent": "true" if plan.agent else "false",
        **({"runner/model": model} if model else {}),
        **({"runner/sweep": plan.sweep.note()} if plan.sweep else {}),
    }


def pod_annotations(plan: RunPlan, cluster: Cluster) -> dict[str, str]:
    """The same, what autoscalers go by, and which container `kubectl logs` and `exec` take."""
    return {
        **cluster.pods.annotations,
        **run_annotations(plan, cluster),
        **_AUTOSCALERS,
        "kubectl.kubernetes.io/default-container": "agent" if plan.agent else "sandbox",
    }


def record_url(cluster: Cluster, run_id: str) -> str:
    """Where a run's record is kept. Raises UsageError where the cluster keeps none."""
    if cluster.records.s3:
        return f"{cluster.records.s3.url.rstrip('/')}/{run_id}"
    if cluster.records.claim:
        return f"pvc://{cluster.records.claim}/{run_id}"
    raise UsageError(
        "the cluster's settings name no place for records",
        hint="an admin sets records.claim or records.s3 in the chart's values",
    )


def owner_reference(job: Mapping[str, Any]) -> dict[str, Any]:
    """Makes what carries it go with the Job. `job` is as the API server has it, with its UID."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
