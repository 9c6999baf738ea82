"""Looks up the facts about this machine that an experiment depends on. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec

from runner.config.experiment import Experiment
from runner.config.machine import Gpu, HostVolume, Machine
from runner.errors import RunnerError
from runner.packages import find_python
from runner.settings import Settings

_DEADLINE_S = 20.0


def look_up_machine(experiment: Experiment, settings: Settings) -> Machine:
    """The facts that `refusals` asks for; only what this experiment needs is looked up."""
    sandbox = experiment.sandbox
    return Machine(
        os_name=platform.system(),
        cores=_cores(),
        memory_bytes=_memory(),
        gpus=gpus() if sandbox.gpu else (),
        system_packages=frozenset(_installed(sandbox.system_packages)),
        programs=frozenset(filter(shutil.which, (experiment.agent.command or ())[:1])),
        speaks_mcp=find_spec("mcp") is not None,
        pythons=_pythons(sandbox.python_version),
        volumes={name: _volume(str(path)) for name, path in settings.volumes.items()},
        gpu_classes=settings.gpu_classes,
    )


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs of this machine; none where nvidia-smi is missing or does not answer."""
    output = _output(
        "nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"
    )
    return parse_gpus(output)


def parse_gpus(listing: str) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's CSV of index, uuid, name and memory in MiB."""
    rows = [[part.strip() for part in line.split(",")] for line in listing.splitlines()]
    return tuple(
        Gpu(int(row[0]), row[1], row[2], int(row[3]) * 1024**2 if row[3].isdigit() else 0)
        for row in rows
        if len(row) == 4 and row[0].isdigit()
    )


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _installed(names: Iterable[str]) -> Iterable[str]:
    """Those that are installed Debian packages, or commands on the PATH."""
    for name in names:
        status = _output("dpkg-query", "--show", "--showformat=${db:Status-Status}", "--", name)
        if "installed" in status.split() or shutil.which(name):
            yield name


def _pythons(version: str | None) -> dict[str, str]:
    if version is None:
        return {}
    try:
        return {version: find_python(version, _DEADLINE_S)}
    except RunnerError:
        return {}


def _volume(directory: str) -> HostVolume:
    exists = os.path.isdir(directory)  # noqa: PTH112 - settings may name what cannot be read
    return HostVolume(directory, exists=exists, writable=os.access(directory, os.W_OK))


def _output(*command: str) -> str:
    """What a command prints; "" where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
