"""What the model is told about where it works. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner import preload
from runner.config.sandbox import ExecutionMode
from runner.plan import PinnedModel, RunPlan

_NOTEBOOK = """\
You carry out a research experiment in a Jupyter notebook, through tools. The task is the first \
message.

The notebook is what people will read, and run again. Use one cell per step, with a markdown cell \
(add_markdown) before it on what you do and why, and after a result on what it shows. Put all \
that the findings rest on into cells, and leave tries to run_shell or delete them. Mend a cell \
that failed with edit_cell and run_existing_cell.
Variables stay in the kernel from cell to cell. Old results are shortened in this conversation: \
the notebook is your memory, read_notebook and read_cell show it again."""

_CLI = """\
You carry out a research experiment with shell commands, through tools. The task is the first \
message. Each command has a shell of its own: variables and `cd` do not stay, files do. Old \
results are shortened in this conversation: keep what you need in files."""

_HONEST = """\
Report what you saw, also when it is not what was hoped for; say how sure you are, and what you \
did not check. Never make up a result.
Nobody answers questions while you work: decide, and say what you decided. When all is done, say \
in a few sentences what you found, without a tool call: that ends the run."""

_COMMON = """\
The working directory is the workspace; paths are relative to it. Put what is to be kept into \
outputs/: tables, plots, a report. Nothing else of the workspace is sure to be kept.
"still running" is no failure: `wait` goes on waiting, `interrupt` stops it. Print little: long \
output is shortened."""

_TOOLS = """\
You carry out a research experiment through tools. The task is the first message."""


def system_prompt(plan: RunPlan, more: Sequence[str] = ()) -> str:
    """The system prompt of a run; `more` is what there is that its plan does not say."""
    cli = plan.experiment.sandbox.execution_mode is ExecutionMode.CLI
    facts = "\n".join(f"- {fact}" for fact in (*_facts(plan), *more))
    return f"{_CLI if cli else _NOTEBOOK}\n\n{_COMMON}\n{_HONEST}\n\nWhat there is:\n{facts}"


def tools_prompt(plan: RunPlan) -> str:
    """The system prompt of an agent that has neither notebook nor shell: the tools say it all."""
    return f"{_TOOLS}\n\n{_HONEST}\n\nThere are {_bounds(plan)}."


def model_facts(plan: RunPlan) -> list[str]:
    """The variables that the plan's models are in, or where they are, as code finds them.

    Of a hidden one that is in no variable, an adapter's base, there is nothing to tell.
    """
    told = [model for model in plan.models if model.var_name or not model.hidden]
    return [_model_fact(model, plan) for model in told]


def _model_fact(model: PinnedModel, plan: RunPlan) -> str:
    if model.var_name:
        return preload.fact(model, plan)
    which = f'"{model.name}", revision="{model.commit}", local_files_only=True'
    return f"a model that is on disk: from_pretrained({which})"


def _facts(plan: RunPlan) -> list[str]:
    sandbox = plan.experiment.sandbox
    facts = [f"Python {plan.python}, with {_packages(plan) or 'no packages asked for'}"]
    if sandbox.gpu:
        facts.append(f"GPU: {sandbox.gpu_count} × {' or '.join(sandbox.gpu)}")
    sizes = {"CPU cores": sandbox.cpu, "memory": sandbox.memory, "disk": sandbox.disk}
    facts += [f"{name}: {size}" for name, size in sizes.items() if size]
    for repo in plan.repos:
        facts.append(f"{repo.name}/: {repo.url} at {repo.commit[:12]}, importable")
    facts += model_facts(plan)
    facts += [f"{copied.path}: copied in" for copied in sandbox.local_files + sandbox.local_dirs]
    for path in plan.experiment.workspace.libraries:
        facts.append(f"library to import: {path.stem}")
    for volume in sandbox.volumes:
        facts.append(f"{volume.path}: data{', read-only' if volume.read_only else ''}")
    if sandbox.secrets:
        facts.append(
            f"keys in environment variables: {', '.join(sandbox.secrets)} (never print them)"
        )
    facts.append(_bounds(plan))
    return facts


def _bounds(plan: RunPlan) -> str:
    replies = plan.experiment.agent.max_turns
    minutes = f"{plan.experiment.sandbox.timeout / 60:.0f} minutes"
    return f"{replies} replies of yours, and {minutes}" if replies else minutes


def _packages(plan: RunPlan) -> str:
    """The packages that were asked for, with their versions; not those that they need."""
    pins = {_normal(pin): pin for pin in plan.packages}
    return ", ".join(pins.get(_normal(asked), asked) for asked in plan.experiment.sandbox.packages)


def _normal(requirement: str) -> str:
    """The name in a requirement, as PEP 503 normalises it."""
    name = re.match(r"[A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
