"""The volumes of a run's pod, and which container sees which of them where."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import hidden, models
from runner.backends.kubernetes.manifests.amounts import (
    INSTALLED,
    LARGE,
    SMALL,
    Amounts,
)
from runner.backends.kubernetes.manifests.meta import job_name
from runner.cluster import Claim, Cluster
from runner.errors import UsageError
from runner.plan import RunPlan
from runner.pod import layout

WRITTEN, READ = "rw", "ro"


@dataclass(frozen=True)
class Volume:
    """A volume of the pod, where it is mounted, and in which containers: READ or WRITTEN."""

    name: str
    source: Mapping[str, Any]
    path: Path
    containers: Mapping[str, str]
    sub_path: str | None = None


def volumes(
    plan: RunPlan, cluster: Cluster, number: int, containers: Sequence[str], given: Amounts
) -> list[Volume]:
    """All of them, for the containers that this run has."""
    every = dict.fromkeys(containers, READ)
    preparing = [name for name in containers if name in ("record", "clone", "models", "install")]
    name = job_name(plan.run_id, number)
    inside = dict.fromkeys([*preparing, "sandbox"], WRITTEN)
    # The record holds the score script, which is the answer key: the sandbox sees the plan alone.
    with_record = {"record": READ, "agent": READ}
    without = [name for name in containers if name not in with_record]
    told = {name: READ for name in without if hidden.knows(name, plan)}
    others = {name: READ for name in without if name not in told}
    found = [
        Volume("workspace", _empty(given.disk), layout.WORKSPACE, inside),
        Volume("state", _empty(given.disk), layout.STATE, {**inside, "agent": READ}),
        Volume("config", {"configMap": {"name": name}}, layout.CONFIG, with_record),
        Volume("plan", _plan(name, layout.PLAN.name), layout.CONFIG, told),
        Volume("shown", _plan(name, layout.SHOWN), layout.CONFIG, others),
        Volume("token", _secret(name), layout.TOKEN.parent, {"sandbox": READ, "agent": READ}),
        _record(plan, cluster, given),
        Volume("shm", _memory(given.shm), Path("/dev/shm"), {"sandbox": WRITTEN}),  # noqa: S108
        *_temporary(containers),
    ]
    if "install" in containers:
        used = {"install": WRITTEN, "sandbox": WRITTEN}
        found.append(Volume("venv", _empty(INSTALLED), layout.VENV, used))
    if cluster.secrets.git and plan.repos:
        found.append(Volume("git", _secret(cluster.secrets.git), layout.GIT, {"clone": READ}))
    if cluster.cache_claim:
        found += _cache(_claim(cluster.cache_claim), plan, ("models", "install"))
    elif hidden.any_in(plan):
        found += _cache(_empty(given.disk), plan, ("models",))
    if cluster.network.ca_bundle:
        found.append(ca_bundle(cluster.network.ca_bundle, every))
    found += _of_experiment(plan, cluster)
    _check_places(found)
    return found


def specs(found: Sequence[Volume], containers: Sequence[str]) -> list[dict[str, Any]]:
    """The pod's list of volumes: those that are mounted, each once."""
    used = [volume for volume in found if set(volume.containers) & set(containers)]
    return list({v.name: {"name": v.name, **v.source} for v in used}.values())


def mounts(found: Sequence[Volume], container: str) -> list[dict[str, Any]]:
    """One container's list of mounts."""
    return [
        {
            "name": volume.name,
            "mountPath": str(volume.path),
            **({"subPath": volume.sub_path} if volume.sub_path else {}),
            **({"readOnly": True} if volume.containers[container] == READ else {}),
        }
        for volume in found
        if container in volume.containers
    ]


def size_limits(found: Sequence[Volume]) -> list[str]:
    """How large the volumes on the node's disk may grow."""
    sources = {volume.name: volume.source for volume in found}.values()
    empty = [source.get("emptyDir", {}) for source in sources]
    return [source["sizeLimit"] for source in empty if source and "medium" not in source]


def record_claim(claim: str, run_id: str, containers: Sequence[str]) -> Volume:
    """The run's own directory in the claim of records; a pod sees no other run's."""
    written = dict.fromkeys(containers, WRITTEN)
    return Volume("record", _claim(claim), layout.RECORD, written, sub_path=run_id)


def temporary(container: str, size: str = SMALL) -> Volume:
    """A container's own /tmp."""
    return Volume(f"tmp-{container}", _empty(size), layout.TMP, {container: WRITTEN})


def ca_bundle(config_map: str, containers: Mapping[str, str]) -> Volume:
    """The lab's CAs."""
    items = [{"key": layout.CA_BUNDLE.name, "path": layout.CA_BUNDLE.name}]
    source = {"configMap": {"name": config_map, "items": items}}
    return Volume("ca", source, layout.CA_BUNDLE.parent, containers)


def _record(plan: RunPlan, cluster: Cluster, given: Amounts) -> Volume:
    """With S3 it is this pod's copy, which can grow by all that the workspace has."""
    if cluster.records.claim and not cluster.records.s3:
        return record_claim(cluster.records.claim, plan.run_id, ("record", "agent"))
    return Volume(
        "record", _empty(given.disk), layout.RECORD, {"record": WRITTEN, "agent": WRITTEN}
    )


def _cache(source: Mapping[str, Any], plan: RunPlan, filling: Sequence[str]) -> Iterator[Volume]:
    """All of it for what fills it; of other runs' models the sandbox knows nothing.

    Of hidden ones it has the copies, and not the cache, where the same files have names.
    """
    yield Volume("cache", source, layout.CACHE, dict.fromkeys(filling, WRITTEN))
    names = dict.fromkeys(model.name for model in hidden.visible(plan))
    places = [layout.MODELS / models.directory(name) for name in names]
    places += [layout.HIDDEN / plan.run_id] if hidden.any_in(plan) else []
    for place in places:
        within = str(place.relative_to(layout.CACHE))
        yield Volume("cache", source, place, {"sandbox": READ}, sub_path=within)


def _temporary(containers: Sequence[str]) -> Iterator[Volume]:
    for container in containers:
        yield temporary(container, LARGE if container in ("install", "sandbox") else SMALL)


def _of_experiment(plan: RunPlan, cluster: Cluster) -> Iterator[Volume]:
    for volume in plan.experiment.sandbox.volumes:
        claim = cluster.volumes.get(volume.name)
        if claim is None:
            raise UsageError(
                f"sandbox.volumes: the cluster has no volume {volume.name}",
                hint=f"it has {', '.join(cluster.volumes) or 'none'}",
            )
        mode = READ if volume.read_only or claim.read_only else WRITTEN
        path = Path(posixpath.join(layout.WORKSPACE, volume.path))
        source = _lab_claim(claim)
        yield Volume(f"lab-{volume.name}", source, path, {"sandbox": mode}, claim.sub_path)


def _check_places(found: Sequence[Volume]) -> None:
    """Refuse a volume of the experiment where a run has its own things, or another volume is."""
    lab = [volume for volume in found if volume.name.startswith("lab-")]
    for i, volume in enumerate(lab):
        hidden = layout.hidden_by(volume.path)
        twice = [other.path for other in lab[:i] if other.path == volume.path]
        if hidden or twice or ":" in str(volume.path):
            raise UsageError(
                f"sandbox.volumes: {volume.path} cannot be the place of a volume"
                + (f": {hidden} is the run's own" if hidden else ""),
                hint="choose one in /workspace, or such as /data",
            )


def _empty(size: str) -> dict[str, Any]:
    return {"emptyDir": {"sizeLimit": size}}


def _plan(config_map: str, key: str) -> dict[str, Any]:
    return {"configMap": {"name": config_map, "items": [{"key": key, "path": layout.PLAN.name}]}}


def _memory(size: str) -> dict[str, Any]:
    return {"emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _secret(name: str) -> dict[str, Any]:
    """Readable by the group, which is fsGroup; ssh minds that of its user's own keys only."""
    return {"secret": {"secretName": name, "defaultMode": 0o440}}


def _claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def _lab_claim(claim: Claim) -> dict[str, Any]:
    """Read-only for the whole pod where nobody may write: then nothing is chowned either."""
    read_only = {"readOnly": True} if claim.read_only else {}
    return {"persistentVolumeClaim": {"claimName": claim.claim, **read_only}}
