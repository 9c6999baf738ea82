"""`runner delete`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import ThisRun

if TYPE_CHECKING:
    from runner.backends.base import Status

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="End it first, if it still goes on.")]

EXAMPLES = """
runner delete checkpoint-diffing-261123-0907-x7k2
runner delete checkpoint-diffing-261123-0907-x7k2 --yes --force
"""


def command(cli: Cli, run: ThisRun, yes: Yes = False, force: Force = False) -> int:
    """Remove a run, its sandbox and its record.

    It cannot be had back.
    Asks before it does; where nobody can be asked, --yes is needed. The id of a sweep stands
    for all of its runs.
    """
    from runner.errors import UsageError

    if members := cli.sweep(run):
        return _sweep(cli, run, members, yes=yes, force=force)
    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    if (status.agent_alive or status.sandbox_alive) and not force:
        what = "goes on" if status.agent_alive else "still has its sandbox"
        raise UsageError(
            f"run {path.name} {what}",
            hint=f"{cli.command('cancel', path.name)} first, or delete it with --force",
        )
    size = len(status.run.outputs)
    if not (yes or _agreed(cli, str(path), f"{status.state}, {size} outputs")):
        return 0
    cli.engine.delete(handle)
    cli.engine.delete_record(handle)
    if cli.json:
        cli.emit(run_id=path.name, deleted=True)
    else:
        cli.say(f"deleted {path}")
    return 0


def _agreed(cli: Cli, what: str, detail: str) -> bool:
    """Ask whether to delete it; UsageError where nobody can be asked."""
    from runner.errors import UsageError

    if not sys.stdin.isatty() or cli.json:
        raise UsageError(f"nobody can be asked whether to delete {what}", hint="add --yes")
    agreed = typer.confirm(f"Delete {what} ({detail}) for good?", err=True)
    if not agreed:
        cli.note("nothing was deleted")
    return agreed


def _sweep(cli: Cli, sweep_id: str, members: Sequence[Status], *, yes: bool, force: bool) -> int:
    from runner.cli.together import counts, each
    from runner.errors import UsageError

    going = [status for status in members if status.agent_alive or status.sandbox_alive]
    if going and not force:
        raise UsageError(
            f"{len(going)} of the {len(members)} runs of {sweep_id} go on",
            hint=f"{cli.command('cancel', sweep_id)} first, or delete them with --force",
        )
    if not (yes or _agreed(cli, f"the {len(members)} runs of {sweep_id}", counts(members))):
        return 0

    def remove(status: Status) -> str:
        handle = cli.engine.attach(status.run_id)
        cli.engine.delete(handle)
        cli.engine.delete_record(handle)
        return status.run_id

    waiting_first = sorted(members, key=lambda status: status.sandbox_alive)
    for run_id in each(waiting_first, remove):
        if cli.json:
            cli.emit(run_id=run_id, deleted=True)
        else:
            cli.say(f"deleted {cli.records / run_id}")
    return 0
