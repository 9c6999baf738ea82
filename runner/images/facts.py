"""What an image's Python has, asked of the image itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import InfrastructureError
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient

_ASK = """
import json, platform
from importlib.metadata import distributions
found = {f"{item.name}=={item.version}" for item in distributions()}
print(json.dumps([platform.python_version(), sorted(found, key=str.lower)]))
"""


@dataclass(frozen=True)
class Python:
    """The Python of a sandbox's kernel."""

    path: str
    version: str
    packages: tuple[str, ...]
    """`name==version`, sorted."""


def python_of(client: DockerClient, image: str, path: str) -> Python:
    """What the Python at this path in the image has; a container answers, without a network."""
    from docker.errors import ContainerError

    with translated(f"asking {image} for its packages"):
        try:
            said = client.containers.run(
                image,
                entrypoint=[path, "-I", "-c", _ASK],
                command=[],
                network_mode="none",
                remove=True,
            )
        except ContainerError as error:
            raise InfrastructureError(f"{image}: {path} does not run: {error}") from error
    version, packages = json.loads(said)
    return Python(path, version, tuple(packages))
