"""The images of ours that an engine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.images.build import NAME
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Present:
    """An image that was built here."""

    name: str
    tag: str
    id: str
    bytes: int
    created: str
    """ISO 8601."""


def every(client: DockerClient) -> list[Present]:
    """All of them, the newest first."""
    with translated("listing images"):
        found = [
            Present(
                image.labels[NAME], tag, str(image.id), image.attrs["Size"], image.attrs["Created"]
            )
            for image in client.images.list(filters={"label": NAME})
            for tag in image.tags
            if tag.startswith(f"runner/{image.labels[NAME]}:")
        ]
    return sorted(found, key=lambda image: image.created, reverse=True)
