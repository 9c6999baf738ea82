"""`runner.pod models`: the init container that has the plan's models in the cache.

It alone sees the hub's tokens. The sandbox sees, of a cache that runs share, its own models'
directories only, and those read-only. Of hidden models it sees copies without a name, in a
directory of its run (`layout.HIDDEN`): who comes later removes those of runs that must be over.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from pathlib import Path

from runner import hidden, models, nameless, preload, prepare
from runner.errors import InfrastructureError
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step

CACHE = "HF_HUB_CACHE"
LOGIN = "RUNNER_HUB_LOGIN"
"""The token of the user's own login at the hub, for models that name no secret; in pods none."""
LONG_OVER_S = 86400.0
"""After the latest time at which a run may have ended, its copies are removed."""


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
        if hidden.any_in(plan):
            (layout.HIDDEN / plan.run_id).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = f"the cache of models cannot be written: {error}"
        step.end(words)
        raise InfrastructureError(words) from error
    return step.run("fetching", work)


def work(
    plan: RunPlan,
    log: PhaseLog,
    end: float,
    *,
    hub: Path = layout.HUB,
    copies: Path = layout.HIDDEN,
) -> None:
    """Fetch into the cache of the environment, and let the sandbox find it all in `hub`.

    But for hidden models, which it finds in `copies`.
    """
    cache = Path(os.environ[CACHE])
    sweep(copies, time.time())
    for model in plan.models:
        step.say(f"fetching {model.name} at {model.commit}")
        models.sweep(model, cache)
    secrets = {model.secret for model in plan.models if model.secret}
    tokens: dict[str | None, str | None] = {name: os.environ.get(name) for name in secrets}
    tokens[None] = os.environ.get(LOGIN)
    prepare.fetch(plan, log, end, tokens, step.say)
    alone = Counter(model.name for model in plan.models)
    for model in hidden.visible(plan):
        revision = model.revision or models.MAIN
        # Code that names no revision is to find the only one that there is.
        revisions = {revision, models.MAIN} if alone[model.name] == 1 else {revision}
        models.offer(model, revisions, cache, hub)
        step.say(f"{model.name} is there")
    if hidden.any_in(plan):
        with log.phase("copying", "without what tells their names"):
            _copy(plan, cache, hub, copies)


def sweep(copies: Path, now: float) -> None:
    """Remove the copies of runs that must have ended long ago."""
    for place in copies.iterdir() if copies.exists() else ():
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            if now > place.stat().st_mtime + LONG_OVER_S:
                step.say(f"removing copies of {place.name}")
                shutil.rmtree(place, ignore_errors=True)


def _copy(plan: RunPlan, cache: Path, hub: Path, copies: Path) -> None:
    """Make the copies of hidden models anew; the directory's time is that of the run's end."""
    own = copies / plan.run_id
    for left in own.iterdir() if own.exists() else ():
        shutil.rmtree(left)
    names = {model.name for model in plan.models if model.hidden}
    for model in plan.models:
        if model.hidden:
            base = preload.base_of(model, plan)
            into = Path(hidden.place(model, plan, copies))
            into.mkdir(parents=True)
            nameless.copy(
                cache / models.snapshot(model),
                into,
                hidden.words(model),
                names,
                str(hub / hidden.place(base, plan, copies)) if base else "",
            )
            step.say(f"{model.name} is there, without its name")
    own_s = plan.prepare_deadline_s + plan.start_deadline_s + plan.experiment.sandbox.timeout
    os.utime(own, (time.time() + own_s,) * 2)
