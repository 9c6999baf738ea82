"""`runner.pod models`: the init container that has the plan's models in the cache.

It alone sees the hub's tokens. The sandbox sees, of a cache that runs share, its own models'
directories only, and those read-only.
"""

from __future__ import annotations

import os
from pathlib import Path

from runner import models, prepare
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step

CACHE = "HF_HUB_CACHE"


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Fetch what is not there; a failure is a failed phase, and status 0."""
    plan = RunPlan.model_validate_json(layout.PLAN.read_bytes())
    for model in plan.models:
        # Whatever comes now: the sandbox mounts it, and the kubelet would make it as root's.
        (Path(os.environ[CACHE]) / models.directory(model.name)).mkdir(parents=True, exist_ok=True)
    return step.run("fetching", work)


def work(plan: RunPlan, log: PhaseLog, end: float, *, hub: Path = layout.HUB) -> None:
    """Fetch into the cache of the environment, and let the sandbox find it all in `hub`."""
    for model in plan.models:
        step.say(f"fetching {model.name} at {model.commit}")
    prepare.fetch(plan, log, end, os.environ, step.say)
    for model in plan.models:
        models.offer(model, Path(os.environ[CACHE]), hub)
        step.say(f"{model.name} is there")
