"""`runner list`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.options import Sweep
from runner.cli.summary import gpu_json
from runner.cli.words import between, clock, dollars, moment, seconds, tokens

if TYPE_CHECKING:
    from runner.backends.base import Status

State = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help="Only runs in this state.")
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Only runs of this experiment.")
]
HEADER = (
    "RUN", "STATE", "MODEL", "AUTHOR", "BEGAN", "TOOK", "TURNS", "TOKENS", "COST", "SCORE", "WHY",
)  # fmt: skip
VALUES = "VALUES"
"""A column that is there where one of the runs is a sweep's."""
_INDENT = "  "
"""Of a sweep's runs, below the line that tells of all of them."""

EXAMPLES = """
runner list
runner list --state running
runner list --name checkpoint-diffing --json | jq .score
runner list --sweep checkpoint-diffing-261123-0907-x7k2
"""


def command(cli: Cli, state: State = None, name: Name = None, sweep: Sweep = None) -> int:
    """List the runs, the newest first; those of a sweep together.

    States: created, preparing, starting, running, ending; done, failed, bound, timeout,
    cancelled, interrupted.
    """
    from runner.backends.base import Selector
    from runner.cli.together import STATES
    from runner.errors import UsageError

    if state is not None and state not in STATES:
        raise UsageError(
            f"--state: there is no state {state!r}", hint=f"one of {', '.join(STATES)}"
        )
    found = cli.engine.list(Selector(name=name, state=state, sweep=sweep))
    if cli.json:
        for status in found:
            cli.emit(**as_json(status))
    elif found:
        _show(found, cli)
    elif state or name or sweep:
        cli.note(f"{cli.records}: holds no such run; `{cli.command('list')}` shows all")
    else:
        cli.note(f"{cli.records}: holds no run yet; `{cli.command('submit', 'FILE')}` makes one")
    return 0


def _show(found: Sequence[Status], cli: Cli) -> None:
    """Print the table; a sweep's runs stand where its newest one is, in their order."""
    from runner.backends.base import sweep_of
    from runner.cli.together import heading, own_words

    groups: dict[str, list[Status]] = {}
    for status in found:
        sweep = sweep_of(status.run).get("id")
        groups.setdefault(sweep or f"/{status.run_id}", []).append(status)
    swept = any(not key.startswith("/") for key in groups)
    header = [*HEADER[:-1], VALUES, HEADER[-1]] if swept else HEADER
    rows: list[Sequence[str]] = [header]
    headings: dict[int, str] = {}
    for key, members in groups.items():
        if not key.startswith("/"):
            headings[len(rows)] = heading(key, members)
            members.sort(key=lambda status: sweep_of(status.run)["number"])
        for status in members:
            row = list(_row(status))
            if swept:
                row.insert(-1, own_words(status.run))
                row[0] = row[0] if key.startswith("/") else f"{_INDENT}{row[0]}"
            rows.append(row)
    table(rows, cli, headings)


def as_json(status: Status) -> dict[str, Any]:
    """What programs are told of a run in a list."""
    run = status.run
    return {
        "run_id": run.run_id,
        "name": run.name,
        "backend": run.backend,
        "sweep": run.plan.get("sweep"),
        "state": status.state,
        "reason": status.reason,
        "exit_status": status.exit_status,
        "author": run.author,
        "model": run.model or run.provider,
        "created": run.created,
        "started": run.started,
        "ended": run.ended,
        "seconds": _took(status),
        "turns": run.turns,
        "tokens": run.tokens,
        "cost_usd": run.cost_usd,
        "score": run.score,
        **gpu_json(run),
        "repos": [{key: repo.get(key) for key in ("url", "ref", "commit")} for repo in run.repos],
    }


def table(rows: Sequence[Sequence[str]], cli: Cli, headings: Mapping[int, str] = {}) -> None:
    """Print columns, with lines of their own before some rows; cut at a terminal's edge."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, row in enumerate(rows):
        if number in headings:
            cli.say(headings[number][:wide])
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cli.say("  ".join(cells).rstrip()[:wide])


def _row(status: Status) -> tuple[str, ...]:
    run = status.run
    return (
        run.run_id,
        status.state,
        run.model or run.provider,
        str(run.author or ""),
        _when(run.created),
        seconds(_took(status)),
        str(run.turns),
        f"{tokens(run.tokens):,}",
        dollars(run.cost_usd),
        _score(run.score),
        status.reason.split("\n")[0][:60],
    )


def _took(status: Status) -> float | None:
    """Seconds since it was created; of an interrupted run nobody knows."""
    if status.state == "interrupted" and status.run.ended is None:
        return None
    return between(status.run.created, status.run.ended)


def _when(time: str | None) -> str:
    when = moment(time)
    return f"{when.astimezone():%y-%m-%d} {clock(time)[:5]}" if when else ""


def _score(score: Any) -> str:
    """The first number of a score with its name, or the score itself where it is one."""
    if isinstance(score, dict):
        if "error" in score:
            return "error"
        numbers = {k: v for k, v in score.items() if isinstance(v, int | float)}
        key = "score" if "score" in numbers else next(iter(numbers), None)
        return f"{key}={numbers[key]:.3g}" if key else ""
    return "" if score is None else str(score)[:12]
