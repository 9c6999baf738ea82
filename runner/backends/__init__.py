"""Where runs are started: one protocol, one module per backend."""

from __future__ import annotations

from runner.backends.base import Backend
from runner.errors import ConfigError
from runner.settings import Settings


def backend_of(settings: Settings) -> Backend:
    """The backend that the settings name. Raises ConfigError for one that this version lacks."""
    if settings.backend == "local":
        from runner.backends.local import LocalBackend

        return LocalBackend(settings)
    if settings.backend == "kubernetes":
        from runner.backends.kubernetes.backend import KubernetesBackend

        return KubernetesBackend(settings)
    raise ConfigError(
        file="settings",
        key="backend",
        expected='"local" or "kubernetes"',
        found=f'"{settings.backend}", which is not in this version',
        hint="`local` runs on this machine, `kubernetes` on a cluster.",
    )
