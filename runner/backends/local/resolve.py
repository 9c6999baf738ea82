"""What is refused, and looked up, before a run starts on this machine."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from runner import packages
from runner.backends.base import Progress, Resolved
from runner.config.experiment import Experiment
from runner.config.machine import gpus_for
from runner.config.support import refusals
from runner.errors import UsageError
from runner.machine import look_up_machine
from runner.prepare import interpreter
from runner.secrets import look_up
from runner.settings import Settings

LOOK_UP_DEADLINE_S = 120.0
"""For resolving all packages."""


def resolve(
    experiment: Experiment,
    settings: Settings,
    *,
    agent: bool,
    folders: Sequence[Path],
    file: str,
    progress: Progress,
) -> Resolved:
    """Everything that this machine is asked for an experiment."""
    progress("checking this machine")
    gpus = _gpus(experiment, settings, file)
    secrets = look_up(experiment.secrets if agent else experiment.sandbox.all_secrets, folders)
    python = experiment.sandbox.python_version or platform.python_version()
    progress("resolving packages")
    pins = packages.resolve(experiment.sandbox.packages, interpreter(python), LOOK_UP_DEADLINE_S)
    return Resolved(
        python,
        pins,
        secrets,
        gpus,
        gpu_hour_usd=settings.gpu_hour_usd,
        gpu_idle_timeout=settings.gpu_idle_timeout,
    )


def allowed(
    experiment: Experiment,
    settings: Settings,
    *,
    names: Sequence[str],
    python: str,
    pins: Sequence[str],
    folders: Sequence[Path],
    file: str,
) -> Resolved:
    """What holds for a plan from a record: its packages stay; this may be another machine."""
    gpus = _gpus(experiment, settings, file)
    secrets = look_up(names, folders)
    return Resolved(
        python,
        tuple(pins),
        secrets,
        gpus,
        gpu_hour_usd=settings.gpu_hour_usd,
        gpu_idle_timeout=settings.gpu_idle_timeout,
    )


def _gpus(experiment: Experiment, settings: Settings, file: str) -> tuple[str, ...]:
    """UUIDs of the GPUs to use; raises UsageError for what this machine cannot do."""
    machine = look_up_machine(experiment, settings)
    if problems := refusals(experiment, settings.backend, machine, file=file):
        raise problems[0] if len(problems) == 1 else UsageError("\n".join(map(str, problems)))
    return tuple(gpu.uuid for gpu in gpus_for(experiment.sandbox, machine) or ())
