"""What a run's containers, volumes and network are called, and their labels. Pure."""

from __future__ import annotations

from runner import models
from runner.plan import RunPlan

RUN = "runner.run"
STEP = "runner.step"
"""Labels by which a run's things are found: its id, and a container's name in it."""
FILL = "fill"
"""The step of the container by which volumes are filled; it never runs."""
STORE = "store"
"""The step of a container that is made for reaching a record."""
MODELS, PACKAGES = "runner-models", "runner-packages"
"""Volumes that all runs share: of models' locks, each model having one of its own; of packages."""
RECORD = "record"
VOLUMES = ("workspace", "state", "config", "shown", "hidden", "venv", "ca")
"""Of a run, besides its record's: they go with its containers."""


def thing(run_id: str, what: str) -> str:
    """The name of a run's container or volume."""
    return f"{run_id}-{what}"


def of_model(name: str) -> str:
    """The name of the volume of a model: a sandbox sees those of its own alone."""
    return f"runner-{models.directory(name)}"


def network(run_id: str) -> str:
    """The name of a run's network."""
    return run_id


def labels(plan: RunPlan, step: str | None = None) -> dict[str, str]:
    """Of everything that is made for a run. No secret is in them."""
    return {
        RUN: plan.run_id,
        "runner.name": plan.name,
        "runner.owner": plan.author,
        "runner.created": plan.created,
        "runner.model": plan.experiment.agent.model or plan.experiment.agent.provider,
        "runner.alone": str(not plan.agent).lower(),
        **({"runner.sweep": plan.sweep.note()} if plan.sweep else {}),
        **({STEP: step} if step else {}),
    }
