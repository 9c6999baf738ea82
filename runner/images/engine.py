"""The Docker engine: connecting, its stream of progress, and its errors in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT_S = 600
"""Between two words of the engine."""
LEAST_API = "1.41"
"""Of Docker 20.10."""
_FULL = re.compile(r"no space left on device", re.IGNORECASE)
_MAKE_SPACE = (
    "`docker system df` shows what takes the space of the engine; `docker image prune` removes "
    "what no tag names, `docker rmi TAG` an image of `runner images list`"
)


@contextmanager
def connected() -> Iterator[DockerClient]:
    """A client of the engine that DOCKER_HOST names, or of the local one."""
    try:
        import docker
        from docker.errors import DockerException, InvalidVersion
    except ModuleNotFoundError as error:
        raise UsageError(
            "a Docker engine is spoken to with the package `docker`, which is not installed here",
            hint="pip install 'runner[docker]'",
        ) from error
    where = _where()
    if where.startswith("unix://") and not Path(where.removeprefix("unix://")).exists():
        raise _no_engine("there is no such socket")
    try:
        client = docker.from_env(timeout=TIMEOUT_S)
    except InvalidVersion as error:
        raise _too_old("a version before 1.24") from error
    except DockerException as error:
        raise _no_engine(str(error)) from error
    try:
        if _numbers(client.api.api_version) < _numbers(LEAST_API):
            raise _too_old(client.api.api_version)
        with translated("asking the engine"):
            client.ping()
        yield client
    finally:
        client.close()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _where() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _too_old(version: str) -> InfrastructureError:
    return InfrastructureError(
        f"the Docker engine at {_where()} is too old: its API is {version}, "
        f"and {LEAST_API} is the least",
        hint="Docker 20.10 or newer (Debian 12: apt install docker.io)",
    )


def _no_engine(words: str) -> InfrastructureError:
    where = _where()
    if "Permission denied" in words:
        return InfrastructureError(
            f"the Docker engine at {where} refuses this user",
            hint="sudo usermod -aG docker $USER, then log in anew",
        )
    absent = any(word in words for word in ("no such socket", "refused"))
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
        words = str(error.explanation or error)
        raise InfrastructureError(f"{doing}: {words}", hint=full(words) or hint) from error
    except (DockerException, RequestException) as error:
        raise InfrastructureError(f"{doing}: the engine is gone: {error}", hint=hint) from error


def full(*words: str) -> str:
    """What to do about a full disk, where one of these words is of that; else nothing."""
    return _MAKE_SPACE if any(map(_FULL.search, words)) else ""


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
