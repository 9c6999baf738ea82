"""The pods of `runner doctor --probe`: what can be reached from where, and which images are had."""

from __future__ import annotations

from typing import Any

from runner.backends.kubernetes.manifests.containers import security
from runner.backends.kubernetes.manifests.helper import helper, ours
from runner.backends.kubernetes.manifests.meta import APP, RUN, labels
from runner.backends.kubernetes.manifests.volumes import temporary
from runner.cluster import Cluster

PROBE = "runner/probe"
"""The label of all of them; its value is the probe's name."""


def probe_pods(probe: str, cluster: Cluster, *, seconds: int) -> list[dict[str, Any]]:
    """A pod as a run's, for the network policies; one that they leave alone; one with the images.

    The first two are named `-run` and `-other`, the last `-images`. They end after `seconds` at
    the latest.
    """
    as_a_run = {**labels(probe, RUN, cluster), PROBE: probe}
    del as_a_run["runner/run"]  # what lists runs is not to see it
    other = {
        **{key: value for key, value in cluster.pods.labels.items() if "kubernetes.io/" not in key},
        "app.kubernetes.io/managed-by": APP,
        PROBE: probe,
    }
    images = dict.fromkeys([cluster.images.agent, *(i.image for i in cluster.images.catalogue)])
    containers = [_pulled(n, image, cluster) for n, image in enumerate(images)]
    marks = {**as_a_run, "app.kubernetes.io/component": "probe"}
    return [
        _listening(f"{probe}-run", as_a_run, cluster, seconds),
        _listening(f"{probe}-other", other, cluster, seconds),
        helper(f"{probe}-images", marks, containers, [], cluster, seconds=seconds),
    ]


def _listening(name: str, marks: dict[str, str], cluster: Cluster, seconds: int) -> dict[str, Any]:
    found = [temporary("probe")]
    container = ours("probe", ["probe", "listen", str(seconds)], found, cluster)
    return helper(name, marks, [container], found, cluster, seconds=seconds)


def _pulled(number: int, image: str, cluster: Cluster) -> dict[str, Any]:
    """A container that ends at once: it was started, so its image is there."""
    least = {"cpu": "1m", "memory": "16Mi", "ephemeral-storage": "1Mi"}
    most = {"cpu": "100m", "memory": "32Mi", "ephemeral-storage": "16Mi"}
    return {
        "name": f"image-{number}",
        "image": image,
        "imagePullPolicy": cluster.images.pull_policy,
        "command": ["tini", "--", "true"],
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
        "resources": {"requests": least, "limits": most},
        "securityContext": security(read_only=True),
    }
