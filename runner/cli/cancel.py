"""`runner cancel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cli.context import Cli
from runner.cli.options import ThisRun

if TYPE_CHECKING:
    from runner.backends.base import Status

EXAMPLES = """
runner cancel checkpoint-diffing-261123-0907-x7k2
"""


def command(cli: Cli, run: ThisRun) -> int:
    """End a run, keeping all that was made.

    The agent has 30 s to collect what is in the sandbox, in containers 5 minutes. A run that is
    over already is left as it is. The id of a sweep stands for all of its runs.
    """
    from runner.cli.summary import made
    from runner.cli.watch import GRACE_S

    if members := cli.sweep(run):
        return _sweep(cli, run, members)
    path, handle = cli.attach(run)
    before = cli.engine.status(handle)
    going = goes_on(before)
    if going:
        collects = ": its agent collects what was made"
        cli.note(f"cancelling {path.name}{collects if before.run.attempts else ''}")
        cli.engine.stop(handle, GRACE_S)
    status = cli.engine.status(handle)
    if cli.json:
        cli.emit(
            run_id=path.name,
            state=status.state,
            reason=status.reason,
            cancelled=going and status.state == "cancelled",
            record=str(path),
        )
        return 0
    cli.say(f"{path.name} is {status.state}" + ("" if going else " already"))
    for label, text in made(status.run):
        cli.pair(label, text)
    cli.pair("record", str(path))
    return 0


def goes_on(status: Status) -> bool:
    """Whether there is something to end."""
    return status.agent_alive or status.sandbox_alive or not status.run.is_over


def _sweep(cli: Cli, sweep_id: str, members: Sequence[Status]) -> int:
    """End all that go on, those first that wait: or they would start in the others' place."""
    from runner.cli.together import counts, each
    from runner.cli.watch import GRACE_S

    going = sorted(filter(goes_on, members), key=lambda status: status.sandbox_alive)
    cli.note(f"cancelling {len(going)} of the {len(members)} runs of {sweep_id}")

    def end(status: Status) -> Status:
        handle = cli.engine.attach(status.run_id)
        cli.engine.stop(handle, GRACE_S)
        return cli.engine.status(handle)

    ended = {}
    for status in each(going, end):
        ended[status.run_id] = status
        if cli.json:
            cancelled = status.state == "cancelled"
            cli.emit(run_id=status.run_id, state=status.state, cancelled=cancelled)
        else:
            cli.say(f"{status.run_id} is {status.state}")
    if not cli.json:
        cli.say(f"{sweep_id}: {counts([ended.get(old.run_id, old) for old in members])}")
    return 0
