"""How a run ended or stands, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.words import between, count, dollars, hours, seconds, size, tokens
from runner.record.run import RunState

if TYPE_CHECKING:
    from runner.backends.base import Status

EXITS = {"done": 0, "failed": 1, "bound": 4, "timeout": 124, "cancelled": 130, "interrupted": 3}
MOST_OUTPUTS = 12

Command = Callable[..., str]
"""`Cli.command`: another command, as the user would type it."""


def exit_status(state: str, of_record: int | None) -> int:
    """The exit status that a run's end means."""
    if state == "failed" and of_record:
        return of_record
    return EXITS.get(state, 3)


def end_json(run: RunState, status: Status, record: Path) -> dict[str, Any]:
    """What programs are told of a run that has ended."""
    return {
        "event": "end",
        "run_id": run.run_id,
        "state": status.state,
        "reason": status.reason,
        "exit_status": exit_status(status.state, status.exit_status),
        "turns": run.turns,
        "tokens": run.tokens,
        "cost_usd": run.cost_usd,
        "seconds": between(run.created, run.ended),
        "score": run.score,
        "record": str(record),
    }


def spent(run: RunState) -> str:
    """Turns, tokens, dollars and time on one line."""
    parts = ["calls of models not counted" if run.provider == "none" else count(run.turns, "turn")]
    if tokens(run.tokens):
        parts += [count(tokens(run.tokens), "token"), dollars(run.cost_usd)]
    if run.started or run.created:
        parts.append(seconds(between(run.started or run.created, run.ended)))
    return " · ".join(parts)


def gpu_count(run: RunState) -> int:
    """How many GPUs it has, or has asked the cluster for."""
    return int(run.gpus["count"])


def gpu_usd(run: RunState) -> float | None:
    """What the GPUs cost the lab while the run held them; None where nobody says what an hour is.

    A GPU that is held and not used costs as much, as nobody else has it.
    """
    price = run.plan.get("gpu_hour_usd")
    return None if price is None else run.gpus["held_s"] / 3600 * float(price)


def gpu_json(run: RunState) -> dict[str, Any]:
    """What programs are told of a run's GPUs."""
    return {
        "gpus": gpu_count(run),
        "gpu_hours": run.gpus["held_s"] / 3600,
        "gpu_hours_used": run.gpus["used_s"] / 3600,
        "gpu_use_source": run.gpus["source"],
        "gpu_usd": gpu_usd(run) if gpu_count(run) else 0.0,
    }


def gpu_words(run: RunState) -> str:
    """The same in words."""
    held_s, used_s = run.gpus["held_s"], run.gpus["used_s"]
    words = f"{hours(held_s)} held"
    if source := run.gpus["source"]:
        share = 100 * used_s / max(held_s, used_s, 1e-9)
        words += f", {hours(used_s)} used ({share:.0f} %, by {source})"
    usd = gpu_usd(run)
    return words if usd is None else f"{words}, {dollars(usd)}"


def made(run: RunState) -> Iterator[tuple[str, str]]:
    """What a run has made and what it cost, as labelled lines."""
    files = [
        f"{file['path']} {size(file['bytes'])}" + (" (withheld)" if file.get("withheld") else "")
        for file in run.outputs
    ]
    more = [f"… {len(files) - MOST_OUTPUTS} more"] if len(files) > MOST_OUTPUTS else []
    yield "outputs", ", ".join([*files[:MOST_OUTPUTS], *more]) or "none"
    if run.score is not None:
        yield "score", json.dumps(run.score)
    yield "spent", spent(run)
    if gpu_count(run):
        yield "gpu", gpu_words(run)


def what_next(run: RunState, state: str, command: Command) -> Iterator[tuple[str, str]]:
    """The commands that make sense now, each with what it is for."""
    raise_it = {"turns": "--max-turns", "tokens": "--max-tokens", "usd": "--max-cost-usd"}
    run_id = run.run_id
    scripted = not run.plan.get("agent", True)  # a script drove it, and can be run again
    if scripted and state in ("bound", "timeout", "cancelled", "failed"):
        yield command("logs", run_id, "--processes"), "what its processes said"
    elif scripted and state == "interrupted":
        yield command("cancel", run_id), "ends it, keeping what was made"
    elif state == "bound" and run.bound in raise_it:
        yield command("resume", run_id, raise_it[run.bound], _more(run)), "goes on where it was"
    elif state == "timeout":
        yield command("resume", run_id, "--timeout", "…"), "goes on with more time"
    elif state in ("bound", "interrupted", "cancelled"):  # GPUs that were idle are no more
        yield command("resume", run_id), "goes on where it was" if run.attempts else "starts it"
    elif state == "failed":
        yield command("logs", run_id, "--processes"), "what its processes said"
        yield command("resume", run_id), "tries to go on where it was"
    elif state != "done":
        yield command("attach", run_id), "follows it"
        yield command("open", run_id), "shows the notebook as it grows"
        yield command("cancel", run_id), "ends it, keeping what was made"
        return
    yield command("fetch", run_id, "--to", "DIR"), "copies notebook, outputs, transcript"


def next_lines(run: RunState, state: str, command: Command) -> Iterator[tuple[str, str]]:
    """The same as labelled lines, aligned."""
    known = list(what_next(run, state, command))
    wide = max(len(line) for line, _ in known)
    for number, (line, purpose) in enumerate(known):
        yield "" if number else "next", f"{line:{wide}}  {purpose}"


def _more(run: RunState) -> str:
    agent: dict[str, Any] = run.plan.get("experiment", {}).get("agent", {})
    key = {"turns": "max_turns", "tokens": "max_tokens", "usd": "max_cost_usd"}[run.bound or ""]
    most = agent.get(key) or 1
    return f"{2 * most:g}"
