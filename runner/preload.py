"""The code that loads a plan's models into the kernel whenever it starts. Pure."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from runner import models
from runner.plan import PinnedModel, RunPlan


def source(plan: RunPlan) -> str:
    """Code for the notebook's kernel; empty for a plan that has nothing to load."""
    wanted = [_wanted(model, plan) for model in plan.models if model.var_name]
    if not wanted:
        return ""
    text = files("runner.serving").joinpath("load.py").read_text()
    return (
        "def _load_models():\n"
        '    scope = {"__name__": "runner_load"}\n'
        f"    exec({text!r}, scope)\n"
        f'    scope["load"](globals(), {wanted!r})\n\n\n'
        "_load_models()\n"
        "del _load_models"
    )


def fact(model: PinnedModel, plan: RunPlan) -> str:
    """What an agent is told of a model that is loaded."""
    base = _base(model, plan)
    on = f", an adapter {'on' if model.apart else 'merged into'} {base.name}" if base else ""
    tokenizer = f", its tokenizer in `{model.tokenizer}`" if model.tokenizer else ""
    return f"`{model.var_name}`: {model.name}{on}, loaded (transformers){tokenizer}"


def names(plan: RunPlan) -> str:
    """The variables that models are loaded into, in words."""
    return ", ".join(str(model.var_name) for model in plan.models if model.var_name)


def _wanted(model: PinnedModel, plan: RunPlan) -> dict[str, Any]:
    base = _base(model, plan)
    return {
        "variable": model.var_name,
        "tokenizer": model.tokenizer,
        "path": models.snapshot(model),
        "base": models.snapshot(base) if base else None,
        "apart": model.apart,
    }


def _base(model: PinnedModel, plan: RunPlan) -> PinnedModel | None:
    return next((one for one in plan.models if model.base and one.commit == model.base), None)
