"""The Job of a run, and the patch that releases it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner.backends.kubernetes.kueue import PRIORITY_LABEL, QUEUE_LABEL
from runner.backends.kubernetes.manifests.amounts import amounts
from runner.backends.kubernetes.manifests.containers import (
    POD_SECURITY,
    container,
)
from runner.backends.kubernetes.manifests.gpu import placement
from runner.backends.kubernetes.manifests.meta import (
    job_name,
    pod_annotations,
    run_annotations,
    run_labels,
)
from runner.backends.kubernetes.manifests.volumes import specs, volumes
from runner.cluster import Cluster
from runner.plan import RunPlan
from runner.pod.variables import steps

PULL_S = 1800.0
"""For pulling images and mounting volumes: a CUDA image is 10 GB and more."""
END_S = 900.0
"""For what comes after the run's timeout: collecting outputs, the score script, the store."""


def job(plan: RunPlan, cluster: Cluster, number: int, *, suspended: bool = True) -> dict[str, Any]:
    """The Kubernetes Job that carries out one `submit` (`number` 1) or `resume` (2 and on).

    Holds names of secrets, never values. It is made suspended and without its queue, so
    that no pod waits for what is not there yet; `released` is what lets it go on then.

    Raises UsageError for what the cluster has not: a GPU class, a volume, a record store.
    """
    labels = run_labels(plan, number)
    made = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(plan.run_id, number),
            "labels": labels,
            "annotations": run_annotations(plan, cluster),
        },
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [_on_disruption(plan)]},
            "ttlSecondsAfterFinished": math.ceil(cluster.job_ttl),
            "template": {
                "metadata": {
                    "labels": run_labels(plan, number, cluster),
                    "annotations": pod_annotations(plan, cluster),
                },
                "spec": _pod(plan, cluster, number),
            },
        },
    }
    return made if suspended else _merged(made, released(cluster, plan))


def released(cluster: Cluster, plan: RunPlan) -> dict[str, Any]:
    """The merge patch that lets a suspended Job go on: by itself, or in its turn by Kueue.

    With a queue, `sandbox.priority` is a WorkloadPriorityClass; without one it is a
    PriorityClass of the pod, and so is in the Job from the beginning.
    """
    queue = _queue(cluster, plan)
    if queue is None:
        return {"spec": {"suspend": False}}
    priority = plan.experiment.sandbox.priority or cluster.queue.priority_class
    given = {PRIORITY_LABEL: priority} if priority else {}
    return {"metadata": {"labels": {QUEUE_LABEL: queue, **given}}}


def _queue(cluster: Cluster, plan: RunPlan) -> str | None:
    return plan.experiment.sandbox.queue or cluster.queue.name


def _on_disruption(plan: RunPlan) -> dict[str, Any]:
    """An eviction is not the experiment's failure; the new pod resumes from the record.

    A sandbox alone has no agent to do that: a new one would hold a GPU for nobody.
    """
    fails = not plan.agent or plan.experiment.sandbox.on_disruption == "fail"
    return {
        "action": "FailJob" if fails else "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }


def _pod(plan: RunPlan, cluster: Cluster, number: int) -> dict[str, Any]:
    pods, own = cluster.pods, plan.experiment.sandbox
    every = steps(plan)
    given = amounts(plan, cluster)
    found = volumes(plan, cluster, number, every, given)
    placed = placement(plan, cluster)
    containers = [container(name, plan, cluster, found, given, placed.limits) for name in every]
    priority = own.priority if _queue(cluster, plan) is None else None
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _deadline(plan, cluster),
        "terminationGracePeriodSeconds": pods.termination_grace_s,
        "serviceAccountName": pods.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        **({"hostUsers": pods.host_users} if pods.host_users is not None else {}),
        **({"priorityClassName": priority} if priority else {}),
        **pull_secrets(cluster),
        **placed.pod,
        "initContainers": containers[:-1],
        "containers": containers[-1:],
        "volumes": specs(found, every),
    }


def pull_secrets(cluster: Cluster) -> dict[str, Any]:
    """What the registry asks for."""
    secrets = [{"name": name} for name in cluster.images.pull_secrets]
    return {"imagePullSecrets": secrets} if secrets else {}


def _deadline(plan: RunPlan, cluster: Cluster) -> int:
    """A backstop, for when neither agent nor sandbox server keeps the run's time.

    It counts from the pod's start, image pulls and init containers included, and anew for a
    replaced pod; so it is the sum of all that may take its time.
    """
    return math.ceil(
        PULL_S
        + plan.prepare_deadline_s
        + plan.start_deadline_s
        + plan.experiment.sandbox.timeout
        + END_S
        + cluster.pods.termination_grace_s
    )


def _merged(made: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    changed = {
        key: _merged(made.get(key, {}), value) if isinstance(value, Mapping) else value
        for key, value in patch.items()
    }
    return {**made, **changed}
