"""A short-lived pod that gives a client access to one run's record on a claim."""

from __future__ import annotations

from typing import Any

from runner.backends.kubernetes.manifests.containers import (
    POD_SECURITY,
    command,
    security,
    small,
)
from runner.backends.kubernetes.manifests.gpu import tolerations
from runner.backends.kubernetes.manifests.job import pull_secrets
from runner.backends.kubernetes.manifests.meta import STORE, labels
from runner.backends.kubernetes.manifests.volumes import mounts, record_claim, specs, temporary
from runner.cluster import Cluster
from runner.errors import UsageError

GRACE_S = 2
"""It holds nothing that could be lost."""


def store_pod(run_id: str, cluster: Cluster, *, name: str, seconds: int) -> dict[str, Any]:
    """Holds one run's directory of the claim for `exec`; ends after `seconds` at the latest.

    It has no token and no secret. Raises UsageError where records are on no claim.
    """
    if cluster.records.claim is None:
        raise UsageError(
            "the cluster's settings name no claim for records",
            hint="an admin sets records.claim in the chart's values",
        )
    found = [record_claim(cluster.records.claim, run_id, ("store",)), temporary("store")]
    pods = cluster.pods
    stands = tolerations(pods.tolerations)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels(run_id, STORE, cluster),
            **({"annotations": dict(pods.annotations)} if pods.annotations else {}),
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "terminationGracePeriodSeconds": GRACE_S,
            "serviceAccountName": pods.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            **({"hostUsers": pods.host_users} if pods.host_users is not None else {}),
            **pull_secrets(cluster),
            **({"nodeSelector": dict(pods.node_selector)} if pods.node_selector else {}),
            **({"tolerations": stands} if stands else {}),
            **({"runtimeClassName": pods.runtime_class_name} if pods.runtime_class_name else {}),
            "containers": [
                {
                    "name": "store",
                    "image": cluster.images.agent,
                    "imagePullPolicy": cluster.images.pull_policy,
                    "command": command("hold"),
                    "env": [
                        {"name": "HOME", "value": "/tmp"},  # noqa: S108
                        {"name": "PYTHONUNBUFFERED", "value": "1"},
                        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
                    ],
                    "resources": small(cluster),
                    "volumeMounts": mounts(found, "store"),
                    "securityContext": security(read_only=True),
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }
            ],
            "volumes": specs(found, ["store"]),
        },
    }
