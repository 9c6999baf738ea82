"""`runner attach`."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

Lines = Annotated[
    int | None,
    typer.Option("--lines", "-n", min=0, metavar="N", help="Show the last N steps, not all."),
]

Chat = Annotated[
    bool,
    typer.Option(
        "--chat", help="Talk to the agent: each line that is typed, or piped in, is told to it."
    ),
]

EXAMPLES = """
runner attach
runner attach --chat
echo 'Plot it on a log scale too.' | runner attach --chat
runner attach checkpoint-diffing-261123-0907-x7k2 -n 5
"""


def command(cli: Cli, run: Run = None, lines: Lines = None, chat: Chat = False) -> int:
    """Follow a run from where it stands to its end, as `submit` does.

    The id of a sweep stands for all of its runs. Any number of terminals can follow one run.
    Ctrl-C stops following, and the run goes on; a second one within 2 s cancels it, a sweep not.
    Otherwise the exit status is the run's.

    With `--chat` the agent hears what is typed before its next step. ESC stops its reply and its
    cell at once, and it waits for what to do. While somebody is there it waits for words before it
    ends the run. Ctrl-D leaves.
    """
    from runner.cli.interrupts import Interrupts
    from runner.cli.watch import Watch
    from runner.errors import UsageError

    if run and cli.sweep(run):
        from runner.cli.group import follow

        if chat:
            raise UsageError("--chat: the agent of one run can be talked to", hint="name the run")
        return follow(cli, run)
    path, handle = cli.attach(run)
    with Interrupts() as interrupts:
        if chat:
            plan = cli.engine.status(handle).run.plan
            if plan.get("experiment", {}).get("agent", {}).get("command"):
                raise UsageError(
                    "--chat: the agent of this run is a command, which hears nobody",
                    hint=f"`{cli.command('attach', handle.run_id)}` follows it",
                )
            from runner.cli.chat import converse

            return converse(cli, path, handle, interrupts, lines)
        return Watch(cli, path, handle, interrupts, lines).run()
