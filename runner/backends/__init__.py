"""Where runs are started: one protocol, one module per backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a sandbox's first process is in here, and needs no settings
    from runner.backends.base import Backend
    from runner.settings import Settings


def backend_of(settings: Settings) -> Backend:
    """The backend that the settings name."""
    if settings.backend == "local":
        from runner.backends.local import LocalBackend

        return LocalBackend(settings)
    if settings.backend == "docker":
        from runner.backends.docker import DockerBackend

        return DockerBackend(settings)
    from runner.backends.kubernetes.backend import KubernetesBackend

    return KubernetesBackend(settings)
