"""What is refused, and looked up, before a run starts on this machine's engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner import pins
from runner.backends.base import Progress, Resolved
from runner.cluster import Image
from runner.config.experiment import Experiment
from runner.config.explain import combined
from runner.config.machine import gpus_for
from runner.config.sandbox import SandboxConfig
from runner.config.support import refusals
from runner.errors import ConfigError, UsageError
from runner.images import fit, installing, local
from runner.images.engine import image_id, translated
from runner.machine import look_up_machine
from runner.plan import PlannedImages, RunPlan
from runner.pod import layout
from runner.secrets import look_up
from runner.settings import Settings

if TYPE_CHECKING:
    from docker import DockerClient

NAME = "docker"
DEFAULT = "base"
"""The image of experiments that name none, where the settings do not say which."""
BUILD = "runner images build"
GPU_RUNTIME = "nvidia"
UID = 1000


def resolve(
    client: DockerClient,
    settings: Settings,
    experiment: Experiment,
    *,
    agent: bool,
    folders: Sequence[Path],
    file: str,
    progress: Progress,
) -> Resolved:
    """Everything that this machine and its engine are asked for an experiment."""
    progress("asking the Docker engine")
    sandbox = experiment.sandbox
    images = catalogue(client, settings)
    if sandbox.image and (named := local.inspect(client, sandbox.image)):
        images = (*images, named.image)
    gpus, problems = _machine(client, experiment, settings, file)
    problems += _image_problems(sandbox, images, file)
    if problems:
        raise combined(problems)
    image = fit.choose(sandbox, images)
    assert image is not None  # noqa: S101 - or it would have been refused
    names = experiment.secrets if agent else sandbox.all_secrets
    secrets = look_up(names, folders)
    missing = installing.lacking(sandbox.packages, image)
    if missing:
        progress(f"resolving {', '.join(missing)}")
    found = installing.pinned(missing, image)
    return Resolved(
        python=image.python_version,
        packages=found.all,
        secrets=secrets,
        gpus=gpus,
        images=_planned(client, settings, image, found.image),
        gpu_hour_usd=settings.gpu_hour_usd,
        gpu_idle_timeout=settings.gpu_idle_timeout,
    )


def allowed(
    client: DockerClient, settings: Settings, plan: RunPlan, *, folders: Sequence[Path], file: str
) -> Resolved:
    """The same for a plan from a record: its packages stay as they are, and so do its images.

    A plan that was made for another backend gets an image with its version of Python.
    """
    experiment, planned, python = plan.experiment, plan.images, plan.python
    gpus, problems = _machine(client, experiment, settings, file)
    if planned is None or plan.backend != NAME:
        same = ".".join(python.split(".")[:2]) if python[:1].isdigit() else None
        update = {"python_version": experiment.sandbox.python_version or same, "image": None}
        sandbox = experiment.sandbox.model_copy(update=update)
        images = catalogue(client, settings)
        problems += _image_problems(sandbox, images, file)
        if image := fit.choose(sandbox, images):
            there = pins.held(plan.packages, image.packages)
            planned = _planned(client, settings, image, there)
            python = image.python_version
    if problems:
        raise combined(problems)
    assert planned is not None  # noqa: S101 - or it would have been refused
    secrets = look_up(plan.secrets, folders)
    for reference in (planned.sandbox, planned.agent):
        if image_id(client, reference) is None:
            raise UsageError(
                f"the engine does not have the image {reference} of this run",
                hint=f"docker pull {reference}, or, with the sources that it was made from, "
                f"{BUILD}; `runner submit` of the experiment's own file takes a current one",
            )
    return Resolved(
        python=python,
        packages=plan.packages,
        secrets=secrets,
        gpus=gpus,
        images=planned,
        gpu_hour_usd=settings.gpu_hour_usd,
        gpu_idle_timeout=settings.gpu_idle_timeout,
    )


def check_place() -> None:
    """Refuse an engine of another machine: a sandbox's port is on its loopback interface."""
    where = os.environ.get("DOCKER_HOST") or "unix://"
    url = urlsplit(where)
    near = url.scheme == "tcp" and url.hostname in ("localhost", "127.0.0.1", "::1")
    if url.scheme != "unix" and not near:
        raise UsageError(
            f"DOCKER_HOST: expected an engine of this machine, found {where}",
            hint="log in there and run it there; a sandbox publishes its port on 127.0.0.1 only",
        )


def catalogue(client: DockerClient, settings: Settings) -> tuple[Image, ...]:
    """The images that experiments may have, the default one first; of each name the newest.

    Raises UsageError where there is none, ConfigError for one of the settings' that is not there.
    """
    newest: dict[str, Image] = {}
    for found in local.catalogue(client):
        newest.setdefault(found.image.name, found.image)
    if not settings.docker.images:
        if not newest:
            raise UsageError("the Docker engine has no image for a sandbox", hint=BUILD)
        return tuple(newest[name] for name in sorted(newest, key=lambda n: (n != DEFAULT, n)))
    return tuple(
        _named(client, reference, newest, f"docker.images[{i}]")
        for i, reference in enumerate(settings.docker.images)
    )


def _named(client: DockerClient, reference: str, newest: dict[str, Image], key: str) -> Image:
    if reference in newest:
        return newest[reference]
    if found := local.inspect(client, reference):
        return found.image
    raise ConfigError(
        file="settings",
        key=key,
        expected=f"an image that the engine has: {', '.join(newest) or 'it has none'}",
        found=repr(reference),
        hint=f"docker pull {reference}, or {BUILD}",
    )


def _planned(
    client: DockerClient, settings: Settings, image: Image, there: Sequence[str]
) -> PlannedImages:
    # A tag of ours names its content; another one may mean another image tomorrow.
    ours = image.image.startswith("runner/")
    return PlannedImages(
        sandbox=image.image if ours else image_id(client, image.image) or image.image,
        agent=agent_image(client, settings),
        python=image.python,
        packages=tuple(there),
    )


def agent_image(client: DockerClient, settings: Settings) -> str:
    """The image of the agent. Raises UsageError where the engine has none, or not the settings'."""
    if reference := settings.docker.agent:
        found = local.find(client, reference)
        if found is None or found.labels.role != local.AGENT:
            raise ConfigError(
                file="settings",
                key="docker.agent",
                expected="an image of the agent that the engine has",
                found=repr(reference),
                hint=f"docker pull {reference}, or {BUILD} agent",
            )
        return reference
    agents = local.agents(client)
    if not agents:
        raise UsageError("the Docker engine has no image of the agent", hint=f"{BUILD} agent")
    return agents[0].tag


def _image_problems(
    sandbox: SandboxConfig, images: Sequence[Image], file: str
) -> list[ConfigError]:
    more = "`runner images list` shows what there is; docs/images.md says how to make one."
    return list(fit.problems(sandbox, images, file, whose="this machine's engine", more=more))


def _machine(
    client: DockerClient, experiment: Experiment, settings: Settings, file: str
) -> tuple[tuple[str, ...], list[ConfigError]]:
    """UUIDs of the GPUs to use, and what machine and engine cannot do."""
    machine = look_up_machine(experiment, settings)
    problems = refusals(experiment, NAME, machine, file=file)
    problems += _places(experiment.sandbox, file)
    problems += _directories(experiment.sandbox, settings, file)
    gpus = tuple(gpu.uuid for gpu in gpus_for(experiment.sandbox, machine) or ())
    if gpus and not has_gpus(client):
        problems.append(
            ConfigError(
                file=file,
                key="sandbox.gpu",
                expected="a Docker engine that gives GPUs to containers",
                found=f"one without the runtime `{GPU_RUNTIME}`",
                hint="Install the NVIDIA Container Toolkit: nvidia-ctk runtime configure "
                "--runtime=docker, then restart the engine.",
            )
        )
    return gpus, problems


def has_gpus(client: DockerClient) -> bool:
    """Whether the engine knows how to give GPUs to containers."""
    with translated("asking the engine for its runtimes"):
        return GPU_RUNTIME in client.api.info()["Runtimes"]


def _places(sandbox: SandboxConfig, file: str) -> Iterator[ConfigError]:
    for i, volume in enumerate(sandbox.volumes):
        hidden = layout.hidden_by(layout.WORKSPACE / volume.path)
        if hidden:
            yield ConfigError(
                file=file,
                key=f"sandbox.volumes[{i}].path",
                expected="a place in /workspace, or such as /data",
                found=repr(volume.path),
                hint=f"It would hide {hidden}, which is the run's own.",
            )


def _directories(sandbox: SandboxConfig, settings: Settings, file: str) -> Iterator[ConfigError]:
    """Directories of this machine that user 1000, as whom sandboxes run, cannot use as asked."""
    for i, volume in enumerate(sandbox.volumes):
        directory = settings.volumes.get(volume.name)
        if directory is None or not directory.is_dir() or _has_acl(directory):
            continue
        info = directory.stat()
        shift = 6 if info.st_uid == UID else 3 if info.st_gid == UID else 0
        wanted, words = (0o5, "read") if volume.read_only else (0o7, "write")
        if (info.st_mode >> shift) & wanted != wanted:
            yield ConfigError(
                file=file,
                key=f"sandbox.volumes[{i}]",
                expected=f"a directory that user {UID}, as whom sandboxes run, may {words}",
                found=f"{directory}, of user {info.st_uid} with mode {info.st_mode & 0o777:o}",
                hint=f"chown {UID} {directory}, or chmod o+rwX {directory}"
                + ("" if volume.read_only else "; or `read_only = true`"),
            )


def _has_acl(directory: Path) -> bool:
    """Whether its mode does not say all."""
    attributes = os.listxattr(directory) if sys.platform == "linux" else []
    return "system.posix_acl_access" in attributes
