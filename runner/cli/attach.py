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

EXAMPLES = """
runner attach
runner attach checkpoint-diffing-261123-0907-x7k2 -n 5
"""


def command(cli: Cli, run: Run = None, lines: Lines = None) -> int:
    """Follow a run from where it stands to its end, as `submit` does.

    The id of a sweep stands for all of its runs. Any number of terminals can follow one run.
    Ctrl-C stops following, and the run goes on; a second one within 2 s cancels it, a sweep not.
    Otherwise the exit status is the run's.
    """
    from runner.cli.interrupts import Interrupts
    from runner.cli.watch import Watch

    if run and cli.sweep(run):
        from runner.cli.group import follow

        return follow(cli, run)
    path, handle = cli.attach(run)
    with Interrupts() as interrupts:
        return Watch(cli, path, handle, interrupts, lines).run()
