"""`runner delete`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import ThisRun

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="End it first, if it still goes on.")]

EXAMPLES = """
runner delete checkpoint-diffing-261123-0907-x7k2
runner delete checkpoint-diffing-261123-0907-x7k2 --yes --force
"""


def command(cli: Cli, run: ThisRun, yes: Yes = False, force: Force = False) -> int:
    """Remove a run, its sandbox and its record.

    It cannot be had back.
    Asks before it does; where nobody can be asked, --yes is needed.
    """
    from runner.errors import UsageError

    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    if (status.agent_alive or status.sandbox_alive) and not force:
        what = "goes on" if status.agent_alive else "still has its sandbox"
        raise UsageError(
            f"run {path.name} {what}",
            hint=f"{cli.command('cancel', path.name)} first, or delete it with --force",
        )
    if not yes:
        if not sys.stdin.isatty() or cli.json:
            raise UsageError(f"nobody can be asked whether to delete {path}", hint="add --yes")
        size = len(status.run.outputs)
        question = f"Delete {path} ({status.state}, {size} outputs) for good?"
        if not typer.confirm(question, err=True):
            cli.note("nothing was deleted")
            return 0
    cli.engine.delete(handle)
    cli.engine.delete_record(handle)
    if cli.json:
        cli.emit(run_id=path.name, deleted=True)
    else:
        cli.say(f"deleted {path}")
    return 0
