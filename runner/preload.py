"""The code that loads a plan's models into the kernel whenever it starts. Pure."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from runner import hidden
from runner.plan import PinnedModel, RunPlan


def source(plan: RunPlan, top: Path = Path("/")) -> str:
    """Code for the notebook's kernel; empty for a plan that has nothing to load.

    `top` is where the copies of hidden models are.
    """
    wanted = [_wanted(model, plan, top) for model in plan.models if model.var_name]
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
    base = base_of(model, plan)
    into = "on" if model.apart else "merged into"
    on = f", an adapter {into} {'another' if base.hidden else base.name}" if base else ""
    tokenizer = f", its tokenizer in `{model.tokenizer}`" if model.tokenizer else ""
    name = "a model whose name is not told" if model.hidden else model.name
    return f"`{model.var_name}`: {name}{on}, loaded (transformers){tokenizer}"


def names(plan: RunPlan) -> str:
    """The variables that models are loaded into, in words."""
    return ", ".join(str(model.var_name) for model in plan.models if model.var_name)


def _wanted(model: PinnedModel, plan: RunPlan, top: Path) -> dict[str, Any]:
    base = base_of(model, plan)
    return {
        "variable": model.var_name,
        "tokenizer": model.tokenizer,
        "path": hidden.place(model, plan, top),
        "base": hidden.place(base, plan, top) if base else None,
        "apart": model.apart,
    }


def base_of(model: PinnedModel, plan: RunPlan) -> PinnedModel | None:
    """The model of the plan that an adapter goes on."""
    return next((one for one in plan.models if model.base and one.commit == model.base), None)
