"""The containers of a run's pod, in the order in which they start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.backends.kubernetes.manifests.amounts import (
    LAYER,
    SMALL,
    Amounts,
    cores,
    size,
    total,
)
from runner.backends.kubernetes.manifests.environment import environment
from runner.backends.kubernetes.manifests.volumes import Volume, mounts, size_limits
from runner.backends.reach import COMMAND
from runner.cluster import Cluster
from runner.plan import RunPlan
from runner.pod import layout
from runner.pod.variables import OURS, READ_ONLY, image

POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With `security` below it meets Pod Security "restricted"."""


def container(
    name: str,
    plan: RunPlan,
    cluster: Cluster,
    found: Sequence[Volume],
    given: Amounts,
    gpus: Mapping[str, int],
) -> dict[str, Any]:
    """One of them.

    The sandbox has no probes: one that never passes would restart it for ever, while the
    agent waits for it with a deadline, and says why it gave up.
    """
    return {
        "name": name,
        "image": image(name, plan),
        "imagePullPolicy": cluster.images.pull_policy,
        "command": command(name),
        **({"workingDir": str(layout.WORKSPACE)} if name == "sandbox" else {}),
        **({"restartPolicy": "Always"} if name == "sandbox" and plan.agent else {}),
        "env": environment(name, plan, cluster, given),
        "resources": _resources(name, cluster, found, given, gpus),
        "volumeMounts": mounts(found, name),
        "securityContext": security(read_only=name in READ_ONLY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def command(name: str, *arguments: str) -> list[str]:
    """A command of `runner.pod` under a real init, on the runner's own Python."""
    return ["tini", "--", *COMMAND, name, *arguments]


def security(*, read_only: bool) -> dict[str, Any]:
    """Also with a GPU: the device plugin needs no more."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    }


def small(cluster: Cluster) -> dict[str, Any]:
    """Resources of a container on the agent's image."""
    given = cluster.resources
    same = {"memory": size(given.agent_memory), "ephemeral-storage": SMALL}
    return {"requests": {"cpu": cores(given.agent_cpu), **same}, "limits": same}


def _resources(
    name: str,
    cluster: Cluster,
    found: Sequence[Volume],
    given: Amounts,
    gpus: Mapping[str, int],
) -> dict[str, Any]:
    """`clone`, `models` and `install` may have what the sandbox will have, but for GPUs.

    They run before it, so the pod asks for no more by that. Of disk the scheduler is asked
    for what the workspace may hold, as the other volumes are seldom full; but the limit has
    room for all of them. kubelet evicts a pod that is above the sum of its containers'
    limits, and the run would end with its workspace half empty.
    """
    if name in OURS:
        return small(cluster)
    return {
        "requests": {"cpu": given.cpu, "memory": given.memory, "ephemeral-storage": given.disk},
        "limits": {
            **({"cpu": given.cpu_limit} if given.cpu_limit else {}),
            "memory": given.memory,
            "ephemeral-storage": total(LAYER, *size_limits(found)),
            **({key: str(n) for key, n in gpus.items()} if name == "sandbox" else {}),
        },
    }
