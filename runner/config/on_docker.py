"""What `docker` does with each field. Pure: the facts about the machine are handed in.

What hangs on the engine (its images, whether it has GPUs) is checked by `runner.backends.docker`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.experiment import Experiment
from runner.config.machine import Machine
from runner.config.on_local import AGENT, gpus_here, memory_here, volumes_here
from runner.config.rows import NOWHERE, Refusal, Row, hidden_models, needs

LEAST_CORES, LEAST_BYTES = 0.01, 128 << 20
"""What an engine takes, and what the sandbox's own server needs."""


def _cpu(value: str, experiment: Experiment, machine: Machine) -> Iterator[Refusal]:
    cores = experiment.sandbox.cores or 0.0
    if cores > machine.cores:
        yield Refusal("", f"at most this machine's cores, {machine.cores}", repr(value), "")
    elif cores < LEAST_CORES:
        yield Refusal("", f"at least {LEAST_CORES} cores", repr(value), "")


def _memory(value: str, experiment: Experiment, machine: Machine) -> Iterator[Refusal]:
    yield from memory_here(value, experiment, machine)
    if (experiment.sandbox.memory_bytes or 0) < LEAST_BYTES:
        yield Refusal("", "at least 128Mi: the sandbox's own server is in it", repr(value), "")


def _port(value: int, experiment: Experiment, _: Machine) -> Iterator[Refusal]:
    if experiment.sandbox.network == "none":
        yield Refusal(
            "", 'no port beside network = "none"', repr(value), "The engine publishes none then."
        )


def _volumes(value: tuple[Any, ...], _: Experiment, machine: Machine) -> Iterator[Refusal]:
    yield from volumes_here(value, machine)


def _repos(value: tuple[Any, ...], _: Experiment, __: Machine) -> Iterator[Refusal]:
    for i, repo in enumerate(value):
        if not repo.url.startswith("https://"):
            yield Refusal(
                f"[{i}].url",
                "a URL with https://: the container that clones has no key of yours",
                repr(repo.url),
                "Your git's stored password or token for the host is used where it wants one.",
            )


_QUEUEING = needs(
    "the kubernetes backend", "Remove it: a run on `docker` starts at once.", here="docker"
)
_DISRUPTION = needs(
    "the kubernetes backend",
    "Remove it: on `docker` nothing evicts a run; `resume` takes it up.",
    here="docker",
)

DOCKER: Mapping[str, Row] = {
    "name": Row("part of the run's id; a label of its containers"),
    "task": Row("what the agent is told"),
    "score": Row("run in the agent's container, on the outputs, after the end"),
    "sandbox.image": Row(
        "an image of the engine that `runner images build` made, by its name or reference"
    ),
    "sandbox.gpu": Row(
        "gives the sandbox these GPUs; refused if machine or engine lacks them", gpus_here
    ),
    "sandbox.gpu_count": Row("how many of them", None),
    "sandbox.execution_mode": Row("the tools the agent gets"),
    "sandbox.repos": Row(
        "cloned in a container at a pinned commit, which is recorded; https only, with your git's "
        "own credentials",
        _repos,
    ),
    "sandbox.system_packages": Row("checked; refused if the image lacks one"),
    "sandbox.python_packages": Row(
        "pinned beside what the image has; what it lacks is installed over its Python"
    ),
    "sandbox.notebook_packages": Row("the same as `python_packages`"),
    "sandbox.python_version": Row("picks an image with this Python; refused if there is none"),
    "sandbox.models": Row(
        "fetched in a container at a pinned commit, which is recorded, into a cache that runs "
        "share and no sandbox can write; loaded where `var_name` says so; of a `hidden` one the "
        "sandbox has a copy without its name",
        hidden_models,
    ),
    "sandbox.network": Row(
        "`none`: the sandbox reaches this machine at most; what prepares it and the agent do more"
    ),
    "sandbox.env": Row("set for the kernel and shell commands"),
    "sandbox.cpu": Row("the container's limit", _cpu),
    "sandbox.memory": Row("the container's limit; a cell above it is ended before", _memory),
    "sandbox.disk": Row("the workspace is watched; the run is ended above it"),
    "sandbox.volumes": Row("the directory of the settings, mounted there", _volumes),
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
    "sandbox.jupyter_port": Row("the port of the sandbox server on the loopback interface", _port),
    **NOWHERE,
    **AGENT,
}
