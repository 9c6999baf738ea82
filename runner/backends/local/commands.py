"""The two commands of a local run. Pure."""

from __future__ import annotations

import sys
from typing import Any

from runner.backends.local.paths import Paths
from runner.plan import RunPlan

_PYTHON = (sys.executable, "-P", "-m")
"""-P: a module in the directory where it starts is not taken for one of ours."""


def sandbox(paths: Paths, left_s: float, socket_fd: object, lock_fd: object) -> list[str]:
    """What the sandbox's first process is; `left_s` seconds are left of the run's timeout."""
    numbers = (str(max(left_s, 0.0)), str(socket_fd), str(lock_fd))
    return [*_PYTHON, "runner.backends.local.init", str(paths.root), *numbers]


def agent(paths: Paths) -> list[str]:
    """What the agent's process is."""
    return [*_PYTHON, "runner.agent", str(paths.agent_options)]


def sandbox_variables(plan: RunPlan) -> dict[str, str]:
    """Variables that the sandbox gets besides places and languages; secrets are not among them."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(plan.gpus)}


def rendered(plan: RunPlan, paths: Paths) -> dict[str, Any]:
    """Both processes as they would be started; descriptors have names, and so do secrets."""
    own = plan.experiment
    processes = [
        {
            "name": "sandbox",
            "command": sandbox(paths, own.sandbox.timeout, "SOCKET", "LOCK"),
            "directory": str(paths.workspace),
            "environment": sandbox_variables(plan) | own.sandbox.env,
            "secrets": list(own.sandbox.all_secrets),
        },
        {
            "name": "agent",
            "command": agent(paths),
            "directory": f"the record of {plan.run_id}",
            "environment": {},
            "secrets": [own.agent.llm_secret] if own.agent.llm_secret else [],
        },
    ]
    return {"processes": processes if plan.agent else processes[:1]}
