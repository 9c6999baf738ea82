"""Pushes images to a registry, and resolves their digests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.errors import InfrastructureError, UsageError
from runner.images.context import HEX
from runner.images.engine import problem, translated
from runner.images.local import Present

if TYPE_CHECKING:
    from docker import DockerClient

_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9._-]+)*")
_REFUSED = re.compile(r"denied|unauthori[sz]ed|authentication required|no basic auth", re.I)


def check_registry(registry: str) -> str:
    """The registry, with a path in it if need be; raises UsageError for what is none."""
    if not _REGISTRY.fullmatch(registry):
        raise UsageError(
            f"REGISTRY: {registry!r} is no registry",
            hint="a host, with port and path if need be, without `https://`: ghcr.io/our-lab",
        )
    return registry


def push(client: DockerClient, image: Present, registry: str, say: Callable[[str], None]) -> str:
    """Push an image; returns its reference by digest, which no later push can change."""
    repository = f"{check_registry(registry)}/runner/{image.labels.name}"
    tag = image.labels.content[:HEX]
    with translated(f"pushing {image.tag} to {registry}"):
        client.api.tag(image.id, repository, tag)
        digest = words = None
        for event in client.api.push(repository, tag, stream=True, decode=True):
            words = problem(event) or words
            digest = (event.get("aux") or {}).get("Digest", digest)
            if event.get("status") and event.get("id"):
                say(f"{event['id']} {event['status']} {event.get('progress', '')}".rstrip())
    if words:
        raise _refused(image, registry, words)
    if not digest:
        raise InfrastructureError(f"pushing {image.tag} to {registry}: it named no digest")
    return f"{repository}@{digest}"


def _refused(image: Present, registry: str, words: str) -> InfrastructureError:
    hint = "is it there? A registry without TLS must be on localhost or known to the engine as "
    hint += "insecure (daemon.json: insecure-registries)"
    if _REFUSED.search(words):
        hint = f"docker login {registry.split('/')[0]}"
    return InfrastructureError(f"pushing {image.tag} to {registry}: {words}", hint=hint)
