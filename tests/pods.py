"""Readers of a run's manifests: its pod, and what each container of it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.backends.kubernetes import manifests
from runner.cluster import Cluster, example
from runner.plan import RunPlan
from runner.record.travel import pack


def spec(plan: RunPlan, cluster: Cluster | None = None) -> dict[str, Any]:
    pod: dict[str, Any] = manifests.job(plan, cluster or example(), 1)["spec"]["template"]["spec"]
    return pod


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in [*pod["initContainers"], *pod["containers"]]}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value") for item in container["env"]}


def secret_names(container: dict[str, Any]) -> set[str]:
    sources = (item.get("valueFrom", {}) for item in container["env"])
    return {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}


def mounted(container: dict[str, Any]) -> dict[str, bool]:
    """The names of the volumes, and whether the container can write to them."""
    return {m["name"]: not m.get("readOnly", False) for m in container["volumeMounts"]}


def packed(path: Path) -> bytes:
    """The record as it travels with a Job; it is small enough for that."""
    made = pack(path)
    assert made is not None
    return made
