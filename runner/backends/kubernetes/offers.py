"""What the lab's chart offers, held against what an experiment asks for. Pure.

Each refusal is a ConfigError that names the key, what there is, and how to have more.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from runner.backends.kubernetes import helm
from runner.cluster import Cluster, Image
from runner.config.sandbox import SandboxConfig
from runner.errors import ConfigError
from runner.settings import GPU_CLASSES


def choose(sandbox: SandboxConfig, cluster: Cluster) -> Image | None:
    """The image that is named, else the first one that fits best; None where none can do.

    It must have the Python that is asked for. Of those, one that has all the system packages
    is better, and then one with CUDA where a GPU is asked for.
    """
    if sandbox.image is not None:
        return cluster.images.find(sandbox.image)
    python = sandbox.python_version
    able = [image for image in cluster.images.catalogue if has_python(image, python)]

    def lacks(image: Image) -> tuple[bool, bool]:
        return bool(lacking(sandbox, image)), bool(sandbox.gpu) and not image.gpu

    return min(able, key=lacks, default=None)


def has_python(image: Image, version: str | None) -> bool:
    """Whether the image's Python is of this version, given as `3.12` or `3.12.4`."""
    return version is None or f"{image.python_version}.".startswith(f"{version}.")


def lacking(sandbox: SandboxConfig, image: Image) -> tuple[str, ...]:
    """The system packages that the image does not have."""
    return tuple(name for name in sandbox.system_packages if name not in image.system_packages)


def image_problems(sandbox: SandboxConfig, cluster: Cluster, file: str) -> Iterator[ConfigError]:
    """Why no image of the catalogue will do."""
    catalogue, image = cluster.images.catalogue, choose(sandbox, cluster)
    if image is None and sandbox.image is not None:
        names = [entry.name for entry in catalogue]
        yield ConfigError(
            file=file,
            key="sandbox.image",
            expected=f"an image of the cluster's catalogue: {', '.join(names)}",
            found=repr(sandbox.image),
            hint=_nearest(sandbox.image, names)
            or "An admin adds one to images.catalogue in the chart's values; "
            "`runner images push` prints them.",
        )
        return
    if image is None or not has_python(image, sandbox.python_version):
        there = ", ".join(f"{entry.python_version} in {entry.name}" for entry in catalogue)
        yield ConfigError(
            file=file,
            key="sandbox.python_version",
            expected=f"a Python of the cluster's images: {there}",
            found=repr(sandbox.python_version),
            hint="Nothing installs a Python at run time: remove it, or name an image that has it.",
        )
        return
    if missing := lacking(sandbox, image):
        yield ConfigError(
            file=file,
            key="sandbox.system_packages",
            expected=f"packages that the image {image.name} has: "
            + (", ".join(image.system_packages) or "none"),
            found=f"{', '.join(missing)} missing",
            hint=_other_image(missing, catalogue)
            or "Nothing installs system packages at run time: an admin adds them to the image "
            "(docs/images.md).",
        )


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
        near = "" if name in GPU_CLASSES else _nearest(name, known)
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
                hint=_nearest(volume.name, known) or f"An admin adds it: {setting}",
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


def _other_image(missing: Sequence[str], catalogue: Sequence[Image]) -> str:
    having = [image.name for image in catalogue if set(missing) <= set(image.system_packages)]
    return f'`sandbox.image = "{having[0]}"` has them.' if having else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f"Did you mean `{by_lower[near[0]]}`?" if near else ""
