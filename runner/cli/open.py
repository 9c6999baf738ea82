"""`runner open`."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

if TYPE_CHECKING:
    from runner.backends.base import Handle, Status

Print = Annotated[bool, typer.Option("--print", help="Print the address; open no browser.")]

EXAMPLES = """
runner open
runner open --print
"""


def command(cli: Cli, run: Run = None, print_only: Print = False) -> int:
    """Show the live notebook of a run in the browser.

    Prints its address. The code in it lets one browser in, once, within a minute; run it again
    for another one. While the sandbox starts it waits. When the run is over it prints
    where the finished notebook is.
    """
    from runner.cli.watch import let_go

    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    if not status.sandbox_alive or let_go(status):
        return _finished(cli, status, str(path / "notebook.ipynb"))
    url = _address(cli, handle, status)
    if cli.json:
        cli.emit(run_id=status.run_id, url=url)
    else:
        cli.say(url)
    if not (print_only or cli.json) and not webbrowser.open(url):
        cli.note("no browser could be opened here: open the address in one, within a minute")
    return 0


def _finished(cli: Cli, status: Status, notebook: str) -> int:
    if cli.json:
        cli.emit(run_id=status.run_id, notebook=notebook)
    else:
        cli.note(f"{status.run_id} is {status.state}; its sandbox has ended. The notebook is in")
        cli.say(notebook)
    return 0


def _address(cli: Cli, handle: Handle, status: Status) -> str:
    from runner.cli.sandbox import connected

    with connected(cli, handle, status) as session:
        return session.ticket()
