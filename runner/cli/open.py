"""`runner open`."""

from __future__ import annotations

import time
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

if TYPE_CHECKING:
    from runner.backends.base import Handle, Status

Print = Annotated[bool, typer.Option("--print", help="Print the address; open no browser.")]

HOLD_S = 2.0
"""How often it is looked whether there is still something to show."""

EXAMPLES = """
runner open
runner open --print
"""


def command(cli: Cli, run: Run = None, print_only: Print = False) -> int:
    """Show the live notebook of a run in the browser.

    Prints its address. The code in it lets one browser in, once, within a minute; run it again
    for another one. While the sandbox starts it waits. On a cluster the address leads through
    a tunnel, which lasts until Ctrl-C. When the run is over it prints where the finished
    notebook is.
    """
    from runner.cli.sandbox import connected
    from runner.cli.watch import let_go

    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    if not status.sandbox_alive or let_go(status):
        return _finished(cli, status, str(path / "notebook.ipynb"))
    with connected(cli, handle, status) as session:
        url = session.ticket()
        if cli.json:
            cli.emit(run_id=status.run_id, url=url)
        else:
            cli.say(url)
        if not (print_only or cli.json) and not webbrowser.open(url):
            cli.note("no browser could be opened here: open the address in one, within a minute")
        if handle.backend == "kubernetes":
            _hold(cli, handle)
    return 0


def _hold(cli: Cli, handle: Handle) -> None:
    """Keep the tunnel: the address leads nowhere without it."""
    cli.note("the address leads through this command; Ctrl-C closes it, and the run goes on")
    with suppress(KeyboardInterrupt):
        while cli.engine.status(handle).sandbox_alive:
            time.sleep(HOLD_S)
        cli.note("the sandbox has ended")


def _finished(cli: Cli, status: Status, notebook: str) -> int:
    if cli.json:
        cli.emit(run_id=status.run_id, notebook=notebook)
    else:
        cli.note(f"{status.run_id} is {status.state}; its sandbox has ended. The notebook is in")
        cli.say(notebook)
    return 0
