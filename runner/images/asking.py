"""One command in a container of an image: it has no network, and is gone afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Said:
    """How the command ended, and what it printed."""

    status: int
    text: str
    errors: str


def ask(client: DockerClient, image: str, command: Sequence[str], user: str | None = None) -> Said:
    """Run the command, as this user or the image's. One that is not there ends with status 127."""
    from docker.errors import APIError

    with translated(f"asking the image {image} what is in it"):
        container = client.containers.create(
            image,
            entrypoint=list(command),
            command=[],
            user=user,
            network_mode="none",
            healthcheck={"test": ["NONE"]},
        )
        try:
            try:
                container.start()
            except APIError as error:
                if not error.is_client_error():
                    raise
                return Said(127, "", str(error.explanation))
            status = container.wait()["StatusCode"]
            text, errors = (
                container.logs(stdout=out, stderr=not out).decode(errors="replace")
                for out in (True, False)
            )
        finally:
            container.remove(force=True, v=True)
    return Said(status, text, errors)
