"""Models whose names the agent must not learn: where they are, and what is told instead. Pure.

`runner.nameless` makes the copies that are there.
"""

from __future__ import annotations

from pathlib import Path

from runner import models
from runner.config.experiment import AgentConfig, Experiment, WorkspaceConfig
from runner.plan import PinnedModel, RunPlan

_NAMELESS = {"name": "hidden", "revision": None, "size": None, "secret": None}


def place(model: PinnedModel, plan: RunPlan, top: Path) -> str:
    """Where the sandbox finds a model's files: a hidden one's below `top`, else below the cache.

    By its number, which is the same in the plan that the sandbox is shown.
    """
    if not model.hidden:
        return models.snapshot(model)
    return str(top / plan.run_id / str(plan.models.index(model)))


def any_in(plan: RunPlan) -> bool:
    """Whether a model of the plan is hidden."""
    return any(model.hidden for model in plan.models)


def visible(plan: RunPlan) -> list[PinnedModel]:
    """The models of which the sandbox has the directory in the hub library's cache."""
    return [model for model in plan.models if not model.hidden]


def words(model: PinnedModel) -> str:
    """A hidden model, as all may hear of it."""
    return f"the hidden model `{model.var_name}`" if model.var_name else "a hidden model's base"


def knows(container: str, plan: RunPlan) -> bool:
    """Whether a container of the run gets the plan as it is."""
    return container in ("record", "models", "agent") or not any_in(plan)


def shown(plan: RunPlan) -> RunPlan:
    """What the sandbox, and all that is not to do with models, is told of the plan.

    Without the names, commits and sizes of hidden models, and without what only the user's side and
    the agent read: the task, the values of a sweep, and where files were on the user's machine.
    """
    numbers = {model.commit: f"{n:040}" for n, model in enumerate(plan.models) if model.hidden}
    nameless = [
        model.model_copy(
            update={
                "base": numbers.get(model.base or "", model.base),
                **(_NAMELESS | {"commit": numbers[model.commit]} if model.hidden else {}),
            }
        )
        for model in plan.models
    ]
    own = plan.experiment
    sandbox = own.sandbox.model_copy(update={"models": (), "local_files": (), "local_dirs": ()})
    experiment = Experiment(
        name=own.name, task="-", sandbox=sandbox, workspace=WorkspaceConfig(), agent=AgentConfig()
    )
    return plan.model_copy(
        update={"experiment": experiment, "models": tuple(nameless), "sweep": None}
    )
