"""What the lab's chart offers, held against what an experiment asks for. Pure.

Each refusal is a ConfigError that names the key, what there is, and how to have more.
"""

from __future__ import annotations

from collections.abc import Iterator

from runner.backends.kubernetes import helm
from runner.cluster import Cluster
from runner.config.sandbox import SandboxConfig
from runner.errors import ConfigError
from runner.images.fit import nearest
from runner.settings import GPU_CLASSES


def gpu_problems(
    sandbox: SandboxConfig, cluster: Cluster, namespace: str, file: str
) -> Iterator[ConfigError]:
    """GPU classes that the chart does not know."""
    known = list(cluster.gpu_classes)
    for name in sandbox.gpu:
        if name in known:
            continue
        products = ",".join(GPU_CLASSES.get(name, ("PRODUCT",)))
        setting = helm.upgrade(namespace, f"gpuClasses.{name}.values={{{products}}}")
        near = "" if name in GPU_CLASSES else nearest(name, known)
        yield ConfigError(
            file=file,
            key="sandbox.gpu",
            expected=f"a GPU class of the cluster: {', '.join(known)}",
            found=repr(name),
            hint=near or f"An admin adds it, by the nodes' label nvidia.com/gpu.product: {setting}",
        )


def volume_problems(
    sandbox: SandboxConfig, cluster: Cluster, namespace: str, file: str
) -> Iterator[ConfigError]:
    """Volumes that the chart does not know, or does not let be written."""
    known = list(cluster.volumes)
    for i, volume in enumerate(sandbox.volumes):
        claim = cluster.volumes.get(volume.name)
        if claim is None:
            setting = helm.upgrade(namespace, f"volumes.{volume.name}.claim=CLAIM")
            yield ConfigError(
                file=file,
                key=f"sandbox.volumes[{i}].name",
                expected=f"a volume of the cluster: {', '.join(known) or 'it has none'}",
                found=repr(volume.name),
                hint=nearest(volume.name, known) or f"An admin adds it: {setting}",
            )
        elif claim.read_only and "read_only" in volume.model_fields_set and not volume.read_only:
            setting = helm.upgrade(namespace, f"volumes.{volume.name}.readOnly=false")
            yield ConfigError(
                file=file,
                key=f"sandbox.volumes[{i}].read_only",
                expected=f"true, as the cluster lets nobody write to {volume.name}",
                found="false",
                hint=f"Remove it, or an admin allows it: {setting}",
            )
