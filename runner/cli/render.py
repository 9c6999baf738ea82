"""`runner render`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from runner.cli.context import Cli
from runner.cli.options import MaxCost, MaxTokens, MaxTurns, Sets, Timeout, bounds
from runner.cli.submit import File, Model, chosen

if TYPE_CHECKING:
    from runner.plan import RunPlan

EXAMPLES = """
runner render experiment.toml
runner render experiment.toml --backend kubernetes | kubectl diff -f -
runner render experiment.toml | jq .plan.packages
"""


def command(
    cli: Cli,
    file: File,
    model: Model = None,
    max_turns: MaxTurns = None,
    max_tokens: MaxTokens = None,
    max_cost_usd: MaxCost = None,
    timeout: Timeout = None,
    sets: Sets = None,
) -> int:
    """Print what `submit` would start, and start nothing.

    For a cluster the objects as YAML, otherwise, and with --json, JSON.

    The plan has every commit and package version that would be used, as they are looked up
    now; of secrets the names only. What `submit` would refuse is refused here too.
    """
    from runner.cli.submit import progress
    from runner.config.sweep import given
    from runner.sweep import prepare_all

    overrides = bounds(max_turns, max_tokens, max_cost_usd, timeout)
    if model is not None:
        overrides |= chosen(model)
    with progress(cli) as say:
        submissions = prepare_all(file, cli.settings, overrides, given(sets or ()), say)
    for submission in submissions:
        _print(cli, submission.plan)
    return 0


def _print(cli: Cli, plan: RunPlan) -> None:
    rendered = cli.engine.render(plan)
    if "manifests" in rendered and not cli.json:
        import yaml

        if plan.sweep and plan.sweep.number > 1:
            cli.say("---")
        cli.say(yaml.safe_dump_all(rendered["manifests"], sort_keys=False, allow_unicode=True))
        return
    shown = {"plan": plan.record(), "secrets": list(plan.secrets), **rendered}
    cli.say(json.dumps(shown, indent=None if cli.json else 2))
