"""`runner rebuild`."""

from __future__ import annotations

from runner.cli.context import Cli
from runner.cli.options import ThisRun

EXAMPLES = """
runner rebuild checkpoint-diffing-261123-0907-x7k2
"""


def command(cli: Cli, run: ThisRun) -> int:
    """Make run.json and notebook.ipynb anew.

    From transcript.jsonl and journal.jsonl.
    They may be behind after a crash; the two files they are made from are never changed.
    """
    from runner.errors import UsageError
    from runner.record import Record, rebuild

    path = cli.find(run)
    if Record.open(path).alive():
        raise UsageError(f"run {path.name} goes on, and keeps them itself")
    rebuild(path)
    made = [str(path / name) for name in ("run.json", "notebook.ipynb")]
    if cli.json:
        cli.emit(run_id=path.name, files=made)
    else:
        cli.say("\n".join(made))
    return 0
