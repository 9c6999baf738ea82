"""`runner wait`."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer

from runner.cli.context import Cli

POLL_S = 0.2

Many = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="The runs, or sweeps; the last run if left out."),
]

EXAMPLES = """
runner wait
runner wait first-261123-0907-x7k2 second-261123-0908-d3fg
id=$(runner submit experiment.toml --detach --json | jq -r .run_id); runner wait $id
"""


def command(cli: Cli, run: Many = None) -> int:
    """Wait until runs are over, and exit with their status.

    The id of a sweep stands for all of its runs.
    Prints each run with its state when it ends. With several, the exit status is the worst of
    them, in this order: 3 infrastructure, 1 failed, 124 timed out, 130 cancelled, 4 a bound,
    0 done. A run ends by itself at the latest when its own timeout is over.
    """
    from runner.backends.patience import Patience
    from runner.cli.group import follow
    from runner.cli.summary import exit_status
    from runner.cli.together import worse
    from runner.cli.watch import alive

    names: list[str | None] = [*run] if run else [None]
    worst, left = 0, []
    for name in dict.fromkeys(names):
        if name and cli.sweep(name):
            worst = worse(worst, follow(cli, name))
        else:
            left.append((cli.attach(name)[1], Patience(cli.note)))
    while left:
        for handle, patience in list(left):
            status = patience.look(partial(cli.engine.status, handle))
            if status is None or alive(status):
                continue
            left.remove((handle, patience))
            cli.engine.sync(handle)
            status = cli.engine.status(handle)
            code = exit_status(status.state, status.exit_status)
            worst = worse(worst, code)
            if cli.json:
                cli.emit(
                    run_id=status.run_id,
                    state=status.state,
                    reason=status.reason,
                    exit_status=code,
                )
            else:
                cli.say(f"{status.run_id}  {status.state}: {status.reason}".rstrip(": "))
        if left:
            time.sleep(POLL_S)
    return worst
