"""`runner submit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.options import Detach, MaxCost, MaxTokens, MaxTurns, Sets, Timeout, bounds

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


Rest = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        metavar="SWEEP",
        help="Go on with this sweep, whose start was cut off: start those of its runs that "
        "are not there.",
        show_default=False,
    ),
]

EXAMPLES = """
runner submit experiment.toml
runner submit experiment.toml --model claude-sonnet-5-5 --max-cost-usd 5
runner submit runs/checkpoint-diffing-261123-0907-x7k2    the same run again
runner submit experiment.toml --set agent.max_turns=50 --set agent.max_turns=100
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
    sets: Sets = None,
    sweep: Rest = None,
    detach: Detach = False,
) -> int:
    """Start a run and follow it to its end; or several of them, a sweep.

    Everything that can be checked is checked first: the file, secrets, repositories, packages.
    A refusal leaves nothing behind. The first line printed is the command that shows the
    notebook as it grows. Ctrl-C stops following, and the run goes on; a second Ctrl-C within
    2 s cancels it, keeping what was made. Either way the exit status is 130; otherwise it is
    the run's.

    A sweep is a run for each combination of the values that --set, or the table [sweep] of the
    file, gives to keys. All are checked before the first one starts; the exit status is the
    worst of them, as of `wait`. Ctrl-C stops following; those that were started go on.
    """
    from runner.cli.interrupts import Interrupts
    from runner.config.sweep import given
    from runner.submission import start
    from runner.sweep import prepare_all, rest_of

    overrides = bounds(max_turns, max_tokens, max_cost_usd, timeout)
    if model is not None:
        overrides |= chosen(model)
    with progress(cli) as say:
        submissions = prepare_all(file, cli.settings, overrides, given(sets or ()), say)
        if sweep is not None:
            submissions = rest_of(sweep, submissions, cli.settings, cli.engine)
    submission = submissions[0]
    if submission.plan.sweep:
        from runner.cli.submit_sweep import submit

        again = _again(cli, file, model, sets or (), overrides)
        return submit(cli, submissions, again, detach=detach)
    with Interrupts() as interrupts:
        with interrupts.raising():  # what was begun is undone
            handle = start(submission, cli.settings)
        path = cli.records / handle.run_id
        announce(cli, handle)
        from runner.cli.watch import Watch  # while the run starts: it is slow to import

        return 0 if detach else Watch(cli, path, handle, interrupts, None).run()


def _again(
    cli: Cli, file: Path, model: str | None, sets: Sequence[str], overrides: Mapping[str, Any]
) -> str:
    """The same command, as the user would type it here."""
    options = {"agent.max_turns": "--max-turns", "agent.max_tokens": "--max-tokens"}
    options |= {"agent.max_cost_usd": "--max-cost-usd", "sandbox.timeout": "--timeout"}
    words = [word for text in sets for word in ("--set", text)]
    words += ["--model", model] if model is not None else []
    for key, option in options.items():
        words += [option, f"{overrides[key]}"] if key in overrides else []
    words += ["--backend", cli.backend] if cli.backend is not None else []
    return cli.command("submit", str(file), *words)


def chosen(model: str) -> dict[str, Any]:
    """The keys that let a model carry the experiment out."""
    return {"agent.provider": "anthropic", "agent.model": model, "agent.script": None}


def launch(cli: Cli, handle: Handle) -> dict[str, Any]:
    """What programs are told of a run that was started."""
    url = None  # a tunnel lasts as long as the command that opens it
    if handle.backend == "local":
        with cli.engine.endpoint(handle) as endpoint:
            url = f"{endpoint.url}/runner/"
    return {
        "event": "launch",
        "run_id": handle.run_id,
        "notebook_url": url,
        "open": cli.command("open", handle.run_id),
        "record": str(cli.records / handle.run_id),
    }


def announce(cli: Cli, handle: Handle) -> None:
    """Print how the run is reached, before anything else."""
    from runner.backends.local.backend import NOT_ISOLATED

    run_id = handle.run_id
    if cli.json:
        cli.emit(**launch(cli, handle))
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
