"""`runner status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runner.cli.context import Cli
from runner.cli.options import Run
from runner.cli.words import between, clock, count, dollars, seconds, tokens

if TYPE_CHECKING:
    from runner.backends.base import Status
    from runner.record import RunState

_BEFORE = ("created", "preparing")
PATIENCE_S = 2.0
"""For a pod that has the record of a run which goes on, and whose agent does not answer."""
EXAMPLES = """
runner status
runner status checkpoint-diffing-261123-0907-x7k2 --json | jq .reason
"""


def command(cli: Cli, run: Run = None) -> int:
    """Say how a run stands.

    In words: what it waits for, how long each phase took, what it cost, what to do next.
    """
    from runner.cli.list import as_json
    from runner.cli.summary import made, next_lines

    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    # Before a sandbox runs there is nothing new in the record, which takes time to be had; and
    # where something holds the run up, who has it may not answer.
    if not status.agent_alive or not (status.mend or status.state in _BEFORE):
        patience_s = PATIENCE_S if status.agent_alive else None
        path, handle = cli.look(run, needed=False, patience_s=patience_s)
        status = cli.engine.status(handle)
    if cli.json:
        cli.emit(
            **as_json(status),
            since=status.since,
            mend=status.mend,
            bound=status.run.bound,
            agent_alive=status.agent_alive,
            sandbox_alive=status.sandbox_alive,
            preparing=[vars(phase) for phase in status.phases],
            phases=status.run.phases,
            attempts=status.run.attempts,
            retries=status.run.retries,
            outputs=status.run.outputs,
            record=str(path),
        )
        return 0
    cli.say(status.run_id)
    for label, text in (*_lines(status), *made(status.run), ("record", str(path))):
        if label != "spent":
            cli.pair(label, text, 10)
    for label, text in next_lines(status.run, status.state, cli.command):
        cli.pair(label, text, 10)
    return 0


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    from runner.backends.base import sweep_of
    from runner.cli.together import own_words

    run = status.run
    since = f" (since {clock(status.since)})" if status.since else ""
    yield "state", f"{status.state}: {status.reason}".rstrip(": ") + since
    if status.mend:
        yield "mend", status.mend
    if status.state not in _BEFORE:  # of which some are yet to come
        alive = {"agent": status.agent_alive, "sandbox": status.sandbox_alive}
        words = (f"{who} {'runs' if on else 'ended'}" for who, on in alive.items())
        yield "processes", ", ".join(words)
    if sweep := sweep_of(run):
        yield "sweep", f"{sweep['id']}, {sweep['number']} of {sweep['of']}: {own_words(run)}"
    yield "model", run.model or run.provider
    if run.started or run.created:
        over = status.state == run.state and run.is_over
        took = seconds(between(run.created, run.ended)) if over or status.agent_alive else "?"
        yield "time", f"since {clock(run.created)}, {took}"
    yield "phases", "; ".join(_phases(status)) or "none yet"
    agent = run.plan.get("experiment", {}).get("agent", {})
    if agent.get("command"):
        yield "agent", str(agent["command"][0])
    if agent.get("provider") != "none":
        yield from _used(run, agent)
    if run.attempts > 1 or run.retries:
        yield "attempts", f"{run.attempts} of the agent, {run.retries} repeated calls of the model"


def _used(run: RunState, agent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "turns", f"{run.turns} of {agent.get('max_turns') or '?'}"
    most = f" of {agent['max_tokens']:,}" if agent.get("max_tokens") else ""
    yield "tokens", f"{tokens(run.tokens):,}{most}"
    most = f" of {dollars(agent['max_cost_usd'])}" if agent.get("max_cost_usd") else ""
    price = f", {count(run.unpriced_turns, 'turn')} without a price" if run.unpriced_turns else ""
    yield "cost", f"{dollars(run.cost_usd)}{most}{price}"


def _phases(status: Status) -> Iterator[str]:
    """Each phase with how long it took in all; the sandbox's own steps stand before the states."""
    steps = [(p.name, p.started, p.ended) for p in status.phases]
    steps += [(p["name"], p["started"], p["ended"]) for p in status.run.phases if p["of"] == "run"]
    took: dict[str, float] = {}
    since: dict[str, str] = {}
    for name, started, ended in steps:
        took[name] = took.get(name, 0.0) + (between(started, ended) or 0.0)
        if not ended:
            since[name] = f", since {clock(started)}"
    for name, spent_s in took.items():
        yield f"{name} {seconds(spent_s)}{since.get(name, '')}"
