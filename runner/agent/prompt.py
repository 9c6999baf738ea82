"""What the model is told about where it works. Pure."""

from __future__ import annotations

from runner.config import ExecutionMode
from runner.plan import RunPlan

_NOTEBOOK = """\
You carry out a research experiment in a Jupyter notebook, through tools. The notebook is what
people will read: one step per cell, markdown between them for what you do and what you found.
A cell's variables stay in the kernel. Old results are shortened in this conversation; the
notebook is your memory: read_notebook and read_cell show it again."""

_CLI = """\
You carry out a research experiment with shell commands, through tools."""

_COMMON = """\
The working directory is the workspace. What is to be kept goes into `outputs/` there: tables,
plots, a report. Nothing else of the workspace is sure to be kept.
A tool that says "still running" has not failed: wait for it, or interrupt it.
When you are done, say in a few sentences what you found, without a tool call: that ends the run.
Report what you saw, also when it is not what was hoped for."""


def system_prompt(plan: RunPlan) -> str:
    """The system prompt of a run."""
    sandbox = plan.experiment.sandbox
    parts = [_CLI if sandbox.execution_mode is ExecutionMode.CLI else _NOTEBOOK, _COMMON]
    facts = [f"Python {plan.python}; packages: {', '.join(plan.packages) or 'none'}."]
    if sandbox.gpu:
        facts.append(f"GPU: {sandbox.gpu_count} × {' or '.join(sandbox.gpu)}.")
    if sandbox.memory:
        facts.append(f"Memory: {sandbox.memory}.")
    if plan.repos:
        repos = ", ".join(f"{repo.name}/ ({repo.url} at {repo.commit[:12]})" for repo in plan.repos)
        facts.append(f"Cloned into the workspace, and importable: {repos}.")
    if plan.experiment.workspace.libraries:
        names = ", ".join(path.stem for path in plan.experiment.workspace.libraries)
        facts.append(f"Libraries to import, with their source in the workspace: {names}.")
    if sandbox.volumes:
        facts.append(f"Data: {', '.join(volume.path for volume in sandbox.volumes)}.")
    if sandbox.secrets:
        facts.append(f"Environment variables with keys: {', '.join(sandbox.secrets)}.")
    turns = plan.experiment.agent.max_turns
    facts.append(f"You have {turns} replies and {sandbox.timeout / 60:.0f} minutes.")
    return "\n\n".join([*parts, "\n".join(facts)])
