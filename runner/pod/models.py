"""`runner.pod models`: the init container that has the plan's models in the cache.

It alone sees the hub's tokens. The sandbox sees, of a cache that runs share, its own models'
directories only, and those read-only.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from runner import models, prepare
from runner.errors import InfrastructureError
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step

CACHE = "HF_HUB_CACHE"
LOGIN = "RUNNER_HUB_LOGIN"
"""The token of the user's own login at the hub, for models that name no secret; in pods none."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Fetch what is not there; a failure is a failed phase, and status 0.

    Where the cache cannot be written, the sandbox could not be started: that fails the pod.
    """
    plan = RunPlan.model_validate_json(layout.PLAN.read_bytes())
    try:
        for model in plan.models:
            # Whatever comes now: the sandbox mounts it, and kubelet would make it as root's.
            place = Path(os.environ[CACHE]) / models.directory(model.name)
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = f"the cache of models cannot be written: {error}"
        step.end(words)
        raise InfrastructureError(words) from error
    return step.run("fetching", work)


def work(plan: RunPlan, log: PhaseLog, end: float, *, hub: Path = layout.HUB) -> None:
    """Fetch into the cache of the environment, and let the sandbox find it all in `hub`."""
    cache = Path(os.environ[CACHE])
    for model in plan.models:
        step.say(f"fetching {model.name} at {model.commit}")
        models.sweep(model, cache)
    secrets = {model.secret for model in plan.models if model.secret}
    tokens: dict[str | None, str | None] = {name: os.environ.get(name) for name in secrets}
    tokens[None] = os.environ.get(LOGIN)
    prepare.fetch(plan, log, end, tokens, step.say)
    alone = Counter(model.name for model in plan.models)
    for model in plan.models:
        revision = model.revision or models.MAIN
        # Code that names no revision is to find the only one that there is.
        revisions = {revision, models.MAIN} if alone[model.name] == 1 else {revision}
        models.offer(model, revisions, cache, hub)
        step.say(f"{model.name} is there")
