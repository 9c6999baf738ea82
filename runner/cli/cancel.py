"""`runner cancel`."""

from __future__ import annotations

from runner.cli.context import Cli
from runner.cli.options import ThisRun

EXAMPLES = """
runner cancel checkpoint-diffing-261123-0907-x7k2
"""


def command(cli: Cli, run: ThisRun) -> int:
    """End a run, keeping all that was made.

    The agent has 30 s to collect what is in the sandbox, in containers 5 minutes. A run that is
    over already is left as it is.
    """
    from runner.cli.summary import made
    from runner.cli.watch import GRACE_S

    path, handle = cli.attach(run)
    before = cli.engine.status(handle)
    going = before.agent_alive or before.sandbox_alive or not before.run.is_over
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
