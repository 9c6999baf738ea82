"""The Docker engine: connecting, its stream of progress, and its errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runner.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT_S = 600
"""Between two words of the engine."""


@contextmanager
def connected() -> Iterator[DockerClient]:
    """A client of the engine that DOCKER_HOST names, or of the local one."""
    try:
        import docker
        from docker.errors import DockerException
    except ModuleNotFoundError as error:
        raise UsageError(
            "images are built with the package `docker`, which is not installed here",
            hint="pip install 'runner[docker]'",
        ) from error
    try:
        client = docker.from_env(timeout=TIMEOUT_S)
        client.ping()
    except DockerException as error:
        raise _no_engine(error) from error
    try:
        yield client
    finally:
        client.close()


def _no_engine(error: Exception) -> InfrastructureError:
    words = str(error)
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if "Permission denied" in words:
        return InfrastructureError(
            f"the Docker engine at {where} refuses this user",
            hint="sudo usermod -aG docker $USER, then log in anew",
        )
    absent = any(word in words for word in ("FileNotFoundError", "refused"))
    said = "" if absent else f": {words[:300]}"
    return InfrastructureError(
        f"no Docker engine answers at {where}{said}",
        hint="start it (Debian: apt install docker.io, then systemctl start docker), "
        "or name another one in DOCKER_HOST",
    )


@contextmanager
def translated(doing: str, *, hint: str = "") -> Iterator[None]:
    """What the engine says against it becomes an InfrastructureError."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise InfrastructureError(f"{doing}: {error.explanation or error}", hint=hint) from error
    except (DockerException, RequestException) as error:
        raise InfrastructureError(f"{doing}: the engine is gone: {error}", hint=hint) from error


def image_id(client: DockerClient, reference: str) -> str | None:
    """The id of an image that the engine has, by which its content is known; None without one."""
    from docker.errors import APIError, ImageNotFound

    with translated(f"looking for the image {reference}"):
        try:
            return str(client.images.get(reference).id)
        except ImageNotFound:
            return None
        except APIError as error:
            if not error.is_client_error():
                raise
            raise UsageError(
                f"{reference!r} is no name of an image: {error.explanation}"
            ) from error


def problem(event: dict[str, Any]) -> str | None:
    """What went wrong, where an event of a stream says so.

    Read the stream to its end all the same: only then does the client let go of its connection.
    """
    detail = event.get("errorDetail") or {}
    found = detail.get("message") or event.get("error")
    return str(found).strip() if found else None
