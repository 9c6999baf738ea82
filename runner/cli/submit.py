"""`runner submit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.options import Detach, MaxCost, MaxTokens, MaxTurns, Timeout, bounds

if TYPE_CHECKING:
    from runner.backends.base import Handle

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="An experiment.toml, or the directory of a record, which is then repeated.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Let this model of the Messages API do it, whatever the file says.",
    ),
]


EXAMPLES = """
runner submit experiment.toml
runner submit experiment.toml --model claude-sonnet-5-5 --max-cost-usd 5
runner submit runs/checkpoint-diffing-261123-0907-x7k2    the same run again
runner submit experiment.toml --detach --json
"""


def command(
    cli: Cli,
    file: File,
    model: Model = None,
    max_turns: MaxTurns = None,
    max_tokens: MaxTokens = None,
    max_cost_usd: MaxCost = None,
    timeout: Timeout = None,
    detach: Detach = False,
) -> int:
    """Start a run and follow it to its end.

    Everything that can be checked is checked first: the file, secrets, repositories, packages.
    A refusal leaves nothing behind. The first line printed is the command that shows the
    notebook as it grows. Ctrl-C stops following, and the run goes on; a second Ctrl-C within
    2 s cancels it, keeping what was made. Either way the exit status is 130; otherwise it is
    the run's.
    """
    from runner.cli.interrupts import Interrupts
    from runner.submission import prepare, start

    overrides = bounds(max_turns, max_tokens, max_cost_usd, timeout)
    if model is not None:
        overrides |= chosen(model)
    with progress(cli) as say:
        submission = prepare(file, cli.settings, overrides, say)
    with Interrupts() as interrupts:
        with interrupts.raising():  # what was begun is undone
            handle = start(submission, cli.settings)
        path = cli.records / handle.run_id
        announce(cli, handle, path)
        from runner.cli.watch import Watch  # while the run starts: it is slow to import

        return 0 if detach else Watch(cli, path, handle, interrupts, None).run()


def chosen(model: str) -> dict[str, Any]:
    """The keys that let a model carry the experiment out."""
    return {"agent.provider": "anthropic", "agent.model": model, "agent.script": None}


def announce(cli: Cli, handle: Handle, path: Path) -> None:
    """Print how the run is reached, before anything else."""
    from runner.backends.local.backend import NOT_ISOLATED

    run_id = handle.run_id
    if cli.json:
        url = None  # a tunnel lasts as long as the command that opens it
        if handle.backend == "local":
            with cli.engine.endpoint(handle) as endpoint:
                url = f"{endpoint.url}/runner/"
        cli.emit(
            event="launch",
            run_id=run_id,
            notebook_url=url,
            open=cli.command("open", run_id),
            record=str(path),
        )
        return
    cli.say(cli.command("open", run_id))
    cli.say(f"run {run_id}")
    if handle.backend == "local":
        cli.note(f"note: {NOT_ISOLATED}")


@contextmanager
def progress(cli: Cli) -> Iterator[Callable[[str], None]]:
    """Says on stderr what is being looked up; on a terminal in one line that goes away."""
    if cli.json or not sys.stderr.isatty():
        yield cli.note
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False, markup=False).status("checking the file") as status:
        yield status.update
