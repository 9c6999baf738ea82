"""The plan of a run: the experiment with everything resolved. Pure and frozen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from runner import __version__
from runner.config.experiment import Experiment
from runner.config.parts import Table
from runner.config.sandbox import SandboxConfig
from runner.config.sweep import noted
from runner.prices import Price

if TYPE_CHECKING:
    from runner.settings import Settings


class PinnedRepo(Table):
    """A repository at one commit."""

    url: str
    name: str
    ref: str | None
    commit: str
    install: bool


class PinnedModel(Table):
    """A model at one commit."""

    name: str
    revision: str | None
    commit: str
    size: int | None = Field(description="Bytes of its files, as the hub says; None if unknown.")
    secret: str | None = Field(description="Name of the secret that the hub wants.")
    var_name: str | None = Field(default=None, description="The variable that it is loaded into.")
    tokenizer: str | None = Field(default=None, description="That of its tokenizer.")
    base: str | None = Field(
        default=None, description="The model it is an adapter of, one of the plan's: its commit."
    )
    apart: bool = Field(default=False, description="Whether the adapter is not merged into it.")
    hidden: bool = Field(default=False, description="Whether the sandbox must not tell its name.")


class InputFile(Table):
    """A file that goes into the workspace before the run; its bytes are kept by their SHA-256."""

    path: str
    sha256: str
    bytes: int
    mode: int


class PlannedImages(Table):
    """The images of a run in containers, by digest."""

    sandbox: str
    agent: str
    python: str = Field(description="Path of the kernel's Python in the sandbox's image.")
    packages: tuple[str, ...] = Field(
        default=(), description="Those of the plan's packages that it has."
    )


class SweepPart(Table):
    """Which run of a sweep it is, and the values that it has for itself."""

    id: str
    number: int = Field(description="From 1 on.")
    of: int
    values: Mapping[str, Any] = Field(description="By dotted key of the experiment.")

    def note(self) -> str:
        """As it is noted on what a backend makes for the run; JSON."""
        return json.dumps(self.model_dump(mode="json") | {"values": noted(self.values)})


class RunPlan(Table):
    """Everything a run needs to be started, or repeated; names of secrets, never values.

    It is the first line of the transcript, so `submit runs/ID` can repeat the
    run exactly: commits, package pins, inputs and task are in it.
    """

    run_id: str
    name: str
    author: str
    created: str
    backend: str
    experiment: Experiment
    repos: tuple[PinnedRepo, ...] = ()
    models: tuple[PinnedModel, ...] = ()
    python: str = Field(description="Version or path of the kernel's Python.")
    packages: tuple[str, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    score: str | None = Field(default=None, description="SHA-256 of the score script.")
    script: str | None = Field(default=None, description="SHA-256 of the scripted agent's steps.")
    gpus: tuple[str, ...] = Field(default=(), description="UUIDs of the GPUs of this machine.")
    images: PlannedImages | None = Field(default=None, description="Where it runs in containers.")
    price: Price | None = None
    gpu_hour_usd: float | None = None
    gpu_idle_timeout_s: float | None = Field(
        default=None, description="How long its GPUs may be unused: the least that anybody said."
    )
    prepare_deadline_s: float
    start_deadline_s: float
    repeats: str | None = Field(default=None, description="The run that this one repeats.")
    sweep: SweepPart | None = Field(default=None, description="The sweep that it is a run of.")
    agent: bool = Field(default=True, description="False: a sandbox alone, driven by a script.")
    versions: Mapping[str, str] = Field(default={"runner": __version__})

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of every secret that the run needs."""
        return self.experiment.secrets if self.agent else self.experiment.sandbox.all_secrets

    @property
    def to_install(self) -> tuple[str, ...]:
        """The pins that the sandbox's image does not have."""
        there = self.images.packages if self.images else ()
        return tuple(pin for pin in self.packages if pin not in there)

    def record(self) -> dict[str, Any]:
        """As it stands in the transcript."""
        return self.model_dump(mode="json")


def plan_in_force(lines: Iterable[Mapping[str, Any]]) -> RunPlan:
    """The plan that holds after these transcript lines: a resumed run may have other bounds.

    Raises ValueError (pydantic's) for a plan that this version cannot read.
    """
    plan: Mapping[str, Any] = {}
    for line in lines:
        if line["type"] in ("run", "attempt"):
            plan = line.get("plan") or plan
    return RunPlan.model_validate(plan)


def gpu_idle_timeout_s(sandbox: SandboxConfig, of_lab: float | None) -> float | None:
    """How long the run's GPUs may be unused: the least that experiment and lab say, if any."""
    said = [time for time in (sandbox.gpu_idle_timeout, of_lab) if time is not None]
    return min(said) if said and sandbox.gpus_held else None


def make_plan(
    experiment: Experiment,
    settings: Settings,
    *,
    run_id: str,
    author: str,
    created: str,
    commits: Sequence[str],
    models: Sequence[PinnedModel],
    python: str,
    packages: Sequence[str],
    inputs: Sequence[InputFile],
    score: str | None,
    script: str | None,
    gpus: Sequence[str] = (),
    images: PlannedImages | None = None,
    gpu_hour_usd: float | None = None,
    gpu_idle_timeout: float | None = None,
    agent: bool = True,
) -> RunPlan:
    """The plan out of the experiment, the settings, and what was looked up.

    `commits` are those of the experiment's repos, in their order.
    """
    repos = tuple(
        PinnedRepo(url=repo.url, name=repo.name, ref=repo.ref, commit=commit, install=repo.install)
        for repo, commit in zip(experiment.sandbox.repos, commits, strict=True)
    )
    return RunPlan(
        run_id=run_id,
        name=experiment.name,
        author=author,
        created=created,
        backend=settings.backend,
        experiment=experiment,
        repos=repos,
        models=tuple(models),
        python=python,
        packages=tuple(packages),
        inputs=tuple(inputs),
        score=score,
        script=script,
        gpus=tuple(gpus),
        images=images,
        price=settings.price(experiment.agent.model) if experiment.agent.model else None,
        gpu_hour_usd=gpu_hour_usd,
        gpu_idle_timeout_s=gpu_idle_timeout_s(experiment.sandbox, gpu_idle_timeout),
        prepare_deadline_s=settings.deadlines.prepare,
        start_deadline_s=settings.deadlines.start,
        agent=agent,
    )
