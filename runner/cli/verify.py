"""`runner verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

ALTERED = 3
Head = Annotated[
    str | None,
    typer.Option("--head", metavar="HASH", help="The transcript's head, as it was printed."),
]

EXAMPLES = """
runner verify
runner verify checkpoint-diffing-261123-0907-x7k2 --head 5f0c…
"""


def command(cli: Cli, run: Run = None, head: Head = None) -> int:
    """Check that a record was not altered.

    Checks both hash chains, the sums of all files, and that everything rebuilt from the truth
    is as it must be. Only with --head, the hash printed at the run's end and kept elsewhere,
    does it show a record that was rewritten as a whole. The exit status is 0 for a record that
    is as it was, 3 for one that is not.
    """
    from runner.record.verify import verify

    path = cli.find(run)
    report = verify(path, head.strip().lower() if head else None)
    if cli.json:
        cli.emit(run_id=path.name, **asdict(report))
        return 0 if report.ok else ALTERED
    given = " and has the head given" if head and report.ok else ""
    cli.say(f"{path.name}: {'as it was written' + given if report.ok else 'altered'}")
    for finding in report.findings:
        cli.say(f"  altered  {finding}")
    for output in report.outputs:
        cli.say(f"  {output.kind:9}outputs/{output.path}: {output.what}")
    cli.say(f"  head     {report.transcript_head}, {report.transcript_lines} lines of transcript")
    for note in report.notes:
        cli.note(f"  note: {note}")
    return 0 if report.ok else ALTERED
