"""What `local` does with each field. Pure: the facts about the machine are handed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.experiment import Experiment
from runner.config.files import WORKSPACE
from runner.config.machine import Machine, gpus_for
from runner.config.rows import NOWHERE, Refusal, Row, needs, no_hidden_models


def gpus_here(
    value: tuple[str, ...], experiment: Experiment, machine: Machine
) -> Iterator[Refusal]:
    """GPUs that this machine does not have."""
    if gpus_for(experiment.sandbox, machine) is None:
        names = ", ".join(f"{gpu.product_name}" for gpu in machine.gpus)
        unknown = [name for name in value if name not in machine.gpu_classes]
        hint = f"Known classes: {', '.join(machine.gpu_classes)}." if unknown else ""
        yield Refusal(
            "",
            f"{experiment.sandbox.gpu_count} × {' or '.join(value)} in this machine",
            names or "no NVIDIA GPU (nvidia-smi lists none)",
            hint or "Run it where such a GPU is, or change `gpu`.",
        )


def _image(value: str, _: Experiment, __: Machine) -> Iterator[Refusal]:
    yield Refusal(
        "",
        "no image on `local`, which runs no containers",
        repr(value),
        "Remove it, and name what it has in python_packages and system_packages; "
        "the docker and kubernetes backends run images.",
    )


def _cpu(value: str, experiment: Experiment, machine: Machine) -> Iterator[Refusal]:
    cores = experiment.sandbox.cores or 0.0
    if machine.os_name != "Linux":
        found, hint = machine.os_name, "Remove it: only Linux binds a process to cores."
    elif cores != int(cores):
        found, hint = repr(value), "`local` binds the run to cores; a fraction needs a container."
    elif cores > machine.cores:
        found, hint = repr(value), f"This machine has {machine.cores}."
    else:
        return
    yield Refusal("", "a whole number of this machine's cores, on Linux", found, hint)


def memory_here(value: str, experiment: Experiment, machine: Machine) -> Iterator[Refusal]:
    """More memory than this machine has."""
    if (experiment.sandbox.memory_bytes or 0) > machine.memory_bytes:
        has = f"{machine.memory_bytes / 1024**3:.1f}Gi"
        yield Refusal("", f"at most this machine's memory, {has}", repr(value), "Ask for less.")


def _system_packages(value: tuple[str, ...], _: Experiment, machine: Machine) -> Iterator[Refusal]:
    missing = [name for name in value if name not in machine.system_packages]
    if missing:
        yield Refusal(
            "",
            "packages that are installed: `local` installs none on your machine",
            f"{', '.join(missing)} missing",
            f"Run: sudo apt-get install {' '.join(missing)}",
        )


def _program(value: tuple[str, ...], _: Experiment, machine: Machine) -> Iterator[Refusal]:
    if value[0] not in machine.programs:
        yield Refusal(
            "",
            "a program of this machine, by its path or on the PATH",
            f"no {value[0]!r}",
            "Install it, or name its absolute path.",
        )
    if not machine.speaks_mcp:
        yield Refusal(
            "",
            "the package `mcp`, which speaks with the command",
            "none",
            "Run: pip install 'runner[command]'",
        )


def _python_version(value: str, _: Experiment, machine: Machine) -> Iterator[Refusal]:
    if value not in machine.pythons:
        yield Refusal(
            "",
            "a Python that is installed on this machine",
            f"no Python {value}",
            f"Run: uv python install {value}",
        )


def volumes_here(value: tuple[Any, ...], machine: Machine) -> Iterator[Refusal]:
    """Volumes that the settings do not name, or whose directory is not there."""
    for i, volume in enumerate(value):
        known = ", ".join(machine.volumes) or "none"
        host = machine.volumes.get(volume.name)
        if host is None:
            yield Refusal(
                f"[{i}].name",
                "the name of a volume in the settings",
                repr(volume.name),
                f"Give it a directory under [volumes] there; it has: {known}.",
            )
        elif not host.exists:
            yield Refusal(
                f"[{i}].name",
                "a volume whose directory is there",
                f"no {host.directory}",
                f"Correct volumes.{volume.name} in the settings.",
            )


def _volumes(value: tuple[Any, ...], _: Experiment, machine: Machine) -> Iterator[Refusal]:
    yield from volumes_here(value, machine)
    for i, volume in enumerate(value):
        host = machine.volumes.get(volume.name)
        if host and host.exists and volume.read_only and host.writable:
            yield Refusal(
                f"[{i}].read_only",
                "a directory that you cannot write, as `local` mounts nothing read-only",
                f"{host.directory}, which you can write",
                "Take your write permission from it, or remove `read_only`.",
            )
        if volume.path.startswith("/"):
            yield Refusal(
                f"[{i}].path",
                f"a path in the workspace, relative or under {WORKSPACE}",
                repr(volume.path),
                "`local` has no file system of its own; there the volume is a symlink.",
            )


_QUEUEING = needs("the kubernetes backend", "Remove it: a run on `local` starts at once.")
_DISRUPTION = needs(
    "the kubernetes backend", "Remove it: on `local` nothing evicts a run; `resume` takes it up."
)

_NETWORK = needs("the docker backend", "Remove it: `local` does not isolate.")

AGENT = {
    "workspace.libraries": Row("copied in, importable in the notebook"),
    "agent.provider": Row("who carries the experiment out"),
    "agent.model": Row("sent to the provider"),
    "agent.base_url": Row("where the provider's SDK sends its requests"),
    "agent.max_turns": Row("ends the run"),
    "agent.max_tokens": Row("ends the run"),
    "agent.max_cost_usd": Row("ends the run"),
    "agent.llm_secret": Row("taken from your environment or a .env file; given to the agent only"),
    "agent.script": Row("the steps of the `scripted` provider"),
    "agent.command": Row("run in the agent's container, whose image has to have it"),
}
"""What is the same on every backend of this machine."""

LOCAL: Mapping[str, Row] = {
    "name": Row("part of the run's id"),
    "task": Row("what the agent is told"),
    "score": Row("run outside the sandbox, on the outputs, after the end"),
    "sandbox.image": Row("refused: `local` runs no containers", _image),
    "sandbox.gpu": Row(
        "shows the run these GPUs only; refused if the machine lacks them", gpus_here
    ),
    "sandbox.gpu_count": Row("how many of them", None),
    "sandbox.execution_mode": Row("the tools the agent gets"),
    "sandbox.repos": Row("cloned at a pinned commit, which is recorded"),
    "sandbox.system_packages": Row("checked; refused if one is not installed", _system_packages),
    "sandbox.python_packages": Row("pinned, and installed into the run's own environment"),
    "sandbox.notebook_packages": Row("the same as `python_packages`"),
    "sandbox.python_version": Row(
        "Python of the run's own environment; refused if it is not installed", _python_version
    ),
    "sandbox.models": Row(
        "fetched at a pinned commit, which is recorded, into your own Hugging Face cache; "
        "loaded where `var_name` says so; `hidden` is refused",
        no_hidden_models,
    ),
    "sandbox.network": Row("refused: needs docker", _NETWORK),
    "sandbox.env": Row("set for the kernel and shell commands"),
    "sandbox.cpu": Row("binds the run to so many cores (Linux, whole cores)", _cpu),
    "sandbox.memory": Row("watched; the kernel is ended above it", memory_here),
    "sandbox.disk": Row("the workspace is watched; the run is ended above it"),
    "sandbox.volumes": Row("a symlink in the workspace to the directory of the settings", _volumes),
    "sandbox.local_files": Row("copied in, and kept in the record"),
    "sandbox.local_dirs": Row("copied in, and kept in the record"),
    "sandbox.secrets": Row("taken from your environment or a .env file; a missing one is refused"),
    "sandbox.timeout": Row("ends the run"),
    "sandbox.idle_timeout": Row("ends the sandbox"),
    "sandbox.gpu_idle_timeout": Row(
        "ends the run; the settings' `gpu_idle_timeout` where that is less"
    ),
    "sandbox.queue": Row("refused: needs kubernetes", _QUEUEING),
    "sandbox.priority": Row("refused: needs kubernetes", _QUEUEING),
    "sandbox.on_disruption": Row("refused: needs kubernetes", _DISRUPTION),
    "sandbox.jupyter_port": Row("the port of the sandbox server on the loopback interface"),
    **NOWHERE,
    **AGENT,
    "agent.command": Row("run beside the sandbox, as you; refused if it is not there", _program),
}
