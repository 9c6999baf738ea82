"""Which nodes have GPUs, of which class, and how many are free. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.backends.kubernetes import fits
from runner.cluster import GPU_RESOURCE, GpuClass

Item = Mapping[str, Any]


@dataclass(frozen=True)
class GpuNode:
    """A node with GPUs. `used` is None where nobody may say which pods are there.

    `closed` says why no run gets onto it whatever is free; `labels` are those that classes go by.
    """

    name: str
    labels: Mapping[str, str]
    classes: tuple[str, ...]
    total: int
    used: int | None
    closed: str = ""

    @property
    def free(self) -> int | None:
        """How many a run could have now."""
        return None if self.used is None else max(self.total - self.used, 0)


def gpu_nodes(
    nodes: Iterable[Item], pods: Iterable[Item] | None, classes: Mapping[str, GpuClass]
) -> Iterator[GpuNode]:
    """Nodes and pods as the API gives them; the pods of the whole cluster, or None."""
    resources = {GPU_RESOURCE, *(gpu.resource for gpu in classes.values())}
    used = None if pods is None else _used(pods, resources)
    keys = {gpu.label for gpu in classes.values()}
    for node in nodes:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        offered = (node.get("status") or {}).get("allocatable") or {}
        served = tuple(
            key
            for key, gpu in classes.items()
            if labels.get(gpu.label) in gpu.values and int(offered.get(gpu.resource, "0"))
        )
        total = sum(int(offered.get(resource, "0")) for resource in resources)
        if total:
            yield GpuNode(
                name=name,
                labels={key: labels[key] for key in sorted(keys & set(labels))},
                classes=served,
                total=total,
                used=None if used is None else used[name],
                closed=_closed(node, [classes[key] for key in served]),
            )


def _used(pods: Iterable[Item], resources: set[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for pod in pods:
        over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not over and (node := pod["spec"].get("nodeName")):
            asked = fits.total(pod["spec"], "requests")
            found[node] += sum(int(asked.get(resource, 0)) for resource in resources)
    return found


def _closed(node: Item, classes: list[GpuClass]) -> str:
    spec = node.get("spec") or {}
    conditions = (node.get("status") or {}).get("conditions") or ()
    if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return "it is not ready"
    if spec.get("unschedulable"):
        return "it is cordoned"
    given = [one.model_dump(by_alias=True) for gpu in classes for one in gpu.tolerations]
    kept = fits.untolerated(given, spec.get("taints") or ()) if classes else []
    return f"its taint {', '.join(kept)} is not tolerated" if kept else ""
