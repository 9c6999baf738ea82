"""`runner render`."""

from __future__ import annotations

import json

from runner.cli.context import Cli
from runner.cli.options import MaxCost, MaxTokens, MaxTurns, Timeout, bounds
from runner.cli.submit import File, Model, chosen

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
) -> int:
    """Print what `submit` would start, and start nothing.

    For a cluster the objects as YAML, otherwise, and with --json, JSON.

    The plan has every commit and package version that would be used, as they are looked up
    now; of secrets the names only. What `submit` would refuse is refused here too.
    """
    from runner.cli.submit import progress
    from runner.submission import prepare

    overrides = bounds(max_turns, max_tokens, max_cost_usd, timeout)
    if model is not None:
        overrides |= chosen(model)
    with progress(cli) as say:
        plan = prepare(file, cli.settings, overrides, say).plan
    rendered = cli.engine.render(plan)
    if "manifests" in rendered and not cli.json:
        import yaml

        cli.say(yaml.safe_dump_all(rendered["manifests"], sort_keys=False, allow_unicode=True))
        return 0
    shown = {"plan": plan.record(), "secrets": list(plan.secrets), **rendered}
    cli.say(json.dumps(shown, indent=None if cli.json else 2))
    return 0
