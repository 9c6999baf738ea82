"""What `doctor` looks at on this machine's Docker engine. Nothing is changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.check import Check
from runner.cli.context import Cli
from runner.cli.words import count, size
from runner.errors import RunnerError

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.backends.docker import DockerBackend
    from runner.settings import Settings

LEAST_BYTES = 10 * 10**9
"""Below this much free disk an image with CUDA, or a run's workspace, may not fit."""


def engine_checks(backend: DockerBackend, cli: Cli) -> Iterator[Check]:
    """Every check; ends early where the next ones would only say the same again."""
    try:
        client = backend.client
        yield _engine(client)
    except RunnerError as error:
        yield Check("engine", False, error.message, error.hint)
        return
    yield _disk(client)
    yield _gpus(client)
    yield from _images(client, cli.settings)
    yield from _leftovers(client)


def _engine(client: DockerClient) -> Check:
    from runner.images.engine import translated

    with translated("asking the engine for its version"):
        told, info = client.api.version(), client.api.info()
    words = f"Docker {told['Version']}, API {told['ApiVersion']}, at {client.api.base_url}"
    if info.get("OSType") != "linux":
        return Check("engine", False, f"{words}, of {info['OSType']}", "switch to Linux containers")
    return Check("engine", True, f"{words}, cgroup v{info.get('CgroupVersion', '?')}")


def _disk(client: DockerClient) -> Check:
    from runner.images.engine import translated

    with translated("asking the engine for its disk"):
        root = Path(client.api.info()["DockerRootDir"])
    there = next(path for path in (root, *root.parents) if path.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:  # the engine's directory is root's
        return Check("disk", None, f"{root}: {error.strerror}", "sudo df -h " + str(root))
    if free < LEAST_BYTES:
        mend = "docker system df shows by what; docker image prune; runner delete RUN"
        return Check("disk", False, f"{root}: only {size(free)} are free", mend)
    return Check("disk", True, f"{root}: {size(free)} free")


def _gpus(client: DockerClient) -> Check:
    from runner.backends.docker.resolve import has_gpus
    from runner.machine import gpus

    found = gpus()
    if not found:
        return Check("gpus", None, "none in this machine: experiments without `sandbox.gpu` run")
    names = ", ".join(gpu.product_name for gpu in found)
    if not has_gpus(client):
        mend = "install nvidia-container-toolkit; nvidia-ctk runtime configure --runtime=docker"
        return Check("gpus", False, f"{names}, and the engine cannot give them", mend)
    return Check("gpus", True, f"{names}: the engine gives them to containers")


def _images(client: DockerClient, settings: Settings) -> Iterator[Check]:
    """Whether sandbox and agent have images, and whether they are of this runner."""
    from runner.backends.docker.resolve import agent_image, catalogue
    from runner.images.current import outdated

    try:
        images = catalogue(client, settings)
        agent = agent_image(client, settings)
    except RunnerError as error:
        yield Check("images", False, error.message, error.hint)
        return
    names = ", ".join(f"{image.image} (Python {image.python_version})" for image in images)
    yield Check("images", True, f"for sandboxes {names}; for the agent {agent}")
    for reference, folder, why in outdated(client, [agent, *(image.image for image in images)]):
        yield Check("images", None, f"{reference}: {why}", f"runner images build {folder}")


def _leftovers(client: DockerClient) -> Iterator[Check]:
    """Runs that nobody drives, and what ended ones hold."""
    from runner.backends.docker.leftovers import leftovers

    found = list(leftovers(client))
    delete = "runner delete --backend docker"
    for item in found:
        if item.problem:
            yield Check("leftovers", None, f"{item.run_id}: {item.problem}", item.mend)
    ended = [item for item in found if not item.problem and not item.alive]
    if ended:
        words = count(len(ended), "ended run has", "ended runs have")
        yield Check("leftovers", True, f"{words} containers and volumes here", f"{delete} RUN")
    elif not found:
        yield Check("leftovers", True, "none")
