"""Where a run's pod may be placed, and what it asks for to have a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.cluster import Cluster, GpuClass, Toleration
from runner.errors import UsageError
from runner.plan import RunPlan

NO_GPUS = ("firecracker", "gvisor", "kata-fc", "runsc")
"""Runtime classes, by their usual names, that pass no GPU through."""


@dataclass(frozen=True)
class Placement:
    """`pod` is what goes into the pod's spec, `limits` into the sandbox's."""

    pod: Mapping[str, Any]
    limits: Mapping[str, int] = field(default_factory=dict)


def placement(plan: RunPlan, cluster: Cluster) -> Placement:
    """The nodes that will do, in the experiment's order, and the GPUs to ask them for.

    Raises UsageError for classes that the cluster lacks or that do not go together.
    """
    classes = _classes(plan, cluster)
    pods = cluster.pods
    selector = dict(pods.node_selector)
    affinity: dict[str, Any] = {}
    if len(classes) == 1 and len(classes[0].values) == 1:
        selector[classes[0].label] = classes[0].values[0]
    elif classes:
        affinity = {"affinity": {"nodeAffinity": _node_affinity(classes)}}
    stands = tolerations([*pods.tolerations, *(t for c in classes for t in c.tolerations)])
    runtime = _runtime_class(classes, cluster)
    return Placement(
        pod={
            **({"nodeSelector": selector} if selector else {}),
            **affinity,
            **({"tolerations": stands} if stands else {}),
            **({"runtimeClassName": runtime} if runtime else {}),
        },
        limits={classes[0].resource: plan.experiment.sandbox.gpu_count} if classes else {},
    )


def tolerations(given: Iterable[Toleration]) -> list[dict[str, Any]]:
    """As a pod's spec has them, each once."""
    plain = [t.model_dump(by_alias=True, exclude_none=True) for t in given]
    return [toleration for i, toleration in enumerate(plain) if toleration not in plain[:i]]


def _classes(plan: RunPlan, cluster: Cluster) -> list[GpuClass]:
    asked = plan.experiment.sandbox.gpu
    if missing := [name for name in asked if name not in cluster.gpu_classes]:
        raise UsageError(
            f"sandbox.gpu: the cluster has no GPU class {', '.join(missing)}",
            hint=f"it has {', '.join(cluster.gpu_classes)}",
        )
    classes = [cluster.gpu_classes[name] for name in asked]
    if len({gpu.resource for gpu in classes}) > 1:
        raise UsageError(
            f"sandbox.gpu: {', '.join(asked)} are different resources, and a pod asks for one",
            hint="name one of them",
        )
    return classes


def _node_affinity(classes: list[GpuClass]) -> dict[str, Any]:
    """Any of the classes; of several those named first, so far as such nodes are free."""
    by_label: dict[str, list[str]] = {}
    for gpu in classes:
        values = by_label.setdefault(gpu.label, [])
        values += [value for value in gpu.values if value not in values]
    terms = [_term(label, values) for label, values in by_label.items()]
    required = {"nodeSelectorTerms": terms}  # of several terms one is enough
    # Weights far apart: the scheduler adds other scores to them.
    last = len(classes) - 1
    preferred = [
        {"weight": max(1, 100 * (last - i) // last), "preference": _term(gpu.label, gpu.values)}
        for i, gpu in enumerate(classes[:-1])
    ]
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": required,
        **({"preferredDuringSchedulingIgnoredDuringExecution": preferred} if preferred else {}),
    }


def _term(label: str, values: Iterable[str]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}]}


def _runtime_class(classes: list[GpuClass], cluster: Cluster) -> str | None:
    """That of the GPU class, else that of all pods."""
    named = {gpu.runtime_class_name for gpu in classes} or {None}
    if len(named) > 1:
        raise UsageError(
            "sandbox.gpu: the classes need different runtime classes, and a pod has one",
            hint="name one of them",
        )
    of_class, of_pods = named.pop(), cluster.pods.runtime_class_name
    if classes and of_class is None and of_pods in NO_GPUS:
        raise UsageError(
            f"sandbox.gpu: this cluster runs pods with the runtime class {of_pods}, "
            "which passes no GPU through",
            hint="an admin sets runtimeClassName of the GPU class in the chart's values",
        )
    return of_class or of_pods
