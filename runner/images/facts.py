"""What an image has, asked of the image itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import InfrastructureError
from runner.images.asking import ask

if TYPE_CHECKING:
    from docker import DockerClient

_ASK = """
import json, os, platform
from importlib.metadata import distributions
found = {f"{item.name}=={item.version}" for item in distributions()}
cuda = "CUDA_VERSION" in os.environ or any(item.startswith("nvidia-cuda") for item in found)
print(json.dumps([platform.python_version(), sorted(found, key=str.lower), cuda]))
"""


@dataclass(frozen=True)
class Python:
    """The Python of an image's kernel; the runner's where there is no kernel."""

    path: str
    version: str
    packages: tuple[str, ...]
    """`name==version`, sorted."""
    cuda: bool = False
    """Whether CUDA's libraries are there, of the base image or as packages."""


def python_of(client: DockerClient, image: str, path: str) -> Python:
    """What the Python at this path in the image has."""
    said = ask(client, image, [path, "-I", "-c", _ASK])
    if said.status:
        raise InfrastructureError(f"{image}: {path} does not run:\n{said.errors}")
    version, packages, cuda = json.loads(said.text)
    return Python(path, version, tuple(packages), cuda)


def system_packages_of(client: DockerClient, image: str) -> tuple[str, ...]:
    """The Debian packages that the image was asked to have, without what these need."""
    said = ask(client, image, ["apt-mark", "showmanual"])
    if said.status:
        raise InfrastructureError(f"{image}: apt-mark does not run:\n{said.errors}")
    return tuple(sorted(name.partition(":")[0] for name in said.text.split()))
