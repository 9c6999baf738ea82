"""A pod of ours that is no run: it has no token, no secret and no GPU, and ends by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.backends.kubernetes.manifests.containers import (
    POD_SECURITY,
    command,
    security,
    small,
)
from runner.backends.kubernetes.manifests.gpu import tolerations
from runner.backends.kubernetes.manifests.job import pull_secrets
from runner.backends.kubernetes.manifests.volumes import Volume, mounts, specs
from runner.cluster import Cluster

GRACE_S = 2
"""It holds nothing that could be lost."""


def helper(
    name: str,
    labels: Mapping[str, str],
    containers: Sequence[Mapping[str, Any]],
    found: Sequence[Volume],
    cluster: Cluster,
    *,
    seconds: int,
) -> dict[str, Any]:
    """The pod, with the volumes of its containers; it is over after `seconds` at the latest."""
    pods = cluster.pods
    stands = tolerations(pods.tolerations)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": dict(labels),
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
            "containers": list(containers),
            "volumes": specs(found, [one["name"] for one in containers]),
        },
    }


def ours(name: str, words: Sequence[str], found: Sequence[Volume], cluster: Cluster) -> Any:
    """A container that carries out a command of `runner.pod` on the agent's image."""
    return {
        "name": name,
        "image": cluster.images.agent,
        "imagePullPolicy": cluster.images.pull_policy,
        "command": command(words[0], *words[1:]),
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
        ],
        "resources": small(cluster),
        "volumeMounts": mounts(found, name),
        "securityContext": security(read_only=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
