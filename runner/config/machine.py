"""The facts about a machine that decide what an experiment can have on it. Pure values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.config.sandbox import SandboxConfig


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi tells it."""

    index: int
    uuid: str
    product_name: str
    memory_bytes: int


@dataclass(frozen=True)
class HostVolume:
    """A directory of this machine that the settings call a volume."""

    directory: str
    exists: bool = True
    writable: bool = True


@dataclass(frozen=True)
class Machine:
    """The facts about a machine that decide what an experiment can have on it."""

    os_name: str
    """As `platform.system()` says it: "Linux", "Darwin"."""
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    system_packages: frozenset[str] = frozenset()
    """Those of the packages asked for that are installed, as a package or a command."""
    programs: frozenset[str] = frozenset()
    """The program of `agent.command`, if it is there."""
    speaks_mcp: bool = True
    """Whether what such a program is spoken with is installed."""
    pythons: Mapping[str, str] = field(default_factory=dict)
    """Those of the versions asked for that are installed, with their paths."""
    volumes: Mapping[str, HostVolume] = field(default_factory=dict)
    gpu_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Product labels of each GPU class, from the settings."""


def gpus_for(sandbox: SandboxConfig, machine: Machine) -> tuple[Gpu, ...] | None:
    """The GPUs of the first class asked for of which the machine has enough.

    () where none is asked for, None where the machine has not enough of any class.
    """
    if not sandbox.gpu:
        return ()
    for name in sandbox.gpu:
        products = {_product(label) for label in machine.gpu_classes.get(name, (name,))}
        fitting = [gpu for gpu in machine.gpus if _product(gpu.product_name) in products]
        if len(fitting) >= sandbox.gpu_count:
            return tuple(fitting[: sandbox.gpu_count])
    return None


def _product(name: str) -> str:
    """nvidia-smi's "NVIDIA A100-SXM4-80GB" and the label "NVIDIA-A100-SXM4-80GB" as one."""
    return re.sub(r"^(nvidia-|tesla-)+", "", re.sub(r"[^a-z0-9]+", "-", name.lower()))
