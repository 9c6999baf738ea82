"""`runner resume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.cli.context import Cli
from runner.cli.options import Detach, MaxCost, MaxTokens, MaxTurns, ThisRun, Timeout, bounds

if TYPE_CHECKING:
    from runner.record import RunState

HISTORY = 3
"""Steps of before that are shown."""
_BOUNDS = {
    "turns": ("agent.max_turns", "--max-turns"),
    "tokens": ("agent.max_tokens", "--max-tokens"),
    "usd": ("agent.max_cost_usd", "--max-cost-usd"),
}

EXAMPLES = """
runner resume checkpoint-diffing-261123-0907-x7k2
runner resume checkpoint-diffing-261123-0907-x7k2 --max-turns 400 --max-cost-usd 50
"""


def command(
    cli: Cli,
    run: ThisRun,
    max_turns: MaxTurns = None,
    max_tokens: MaxTokens = None,
    max_cost_usd: MaxCost = None,
    timeout: Timeout = None,
    detach: Detach = False,
) -> int:
    """Go on with a run from its transcript.

    After a crash, a cancel, or with a bound raised. In its sandbox if that still runs, else in
    a new one with the notebook and the outputs, but with no variables. Bounds count from the
    run's start: --max-turns 400 is 400 in all. Then follows it as `attach` does.
    """
    from runner.cli.interrupts import Interrupts
    from runner.cli.submit import announce, progress
    from runner.record import Record
    from runner.submission import resume

    path = cli.find(run)
    overrides = bounds(max_turns, max_tokens, max_cost_usd, timeout)
    refuse_in_vain(Record.open(path).state(), overrides, cli)
    with progress(cli) as say:
        say("looking at the record")
    with Interrupts() as interrupts:
        with interrupts.raising():  # what was begun is undone
            handle = resume(path, cli.settings, overrides)
        announce(cli, handle)
        from runner.cli.watch import Watch  # while the run starts: it is slow to import

        return 0 if detach else Watch(cli, path, handle, interrupts, HISTORY).run()


def refuse_in_vain(run: RunState, given: Mapping[str, Any], cli: Cli) -> None:
    """UsageError for a run that would end again at once: it is done, or its bound is used up."""
    from runner.errors import UsageError

    if run.state == "done":
        raise UsageError(
            f"run {run.run_id} is done",
            hint=f"{cli.command('submit', str(cli.records / run.run_id))} repeats it",
        )
    if run.state == "bound" and run.bound in _BOUNDS:
        key, option = _BOUNDS[run.bound]
        used = _used(run)
        if given.get(key, 0) <= used:
            raise UsageError(
                f"run {run.run_id} ended by a bound, which has to be raised: {run.reason}",
                hint=f"{cli.command('resume', run.run_id)} {option} … above {used:g}",
            )
    if run.state == "timeout" and "sandbox.timeout" not in given:
        raise UsageError(
            f"run {run.run_id} ended because its time was over, so it needs more",
            hint=f"{cli.command('resume', run.run_id)} --timeout …",
        )


def _used(run: RunState) -> float:
    """How much of the bound that ended it is used."""
    if run.bound == "turns":
        return run.turns
    return sum(run.tokens.values()) if run.bound == "tokens" else run.cost_usd or 0.0
