"""`runner logs`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")]
Processes = Annotated[
    bool,
    typer.Option("--processes", help="What installing, the sandbox and the agent's process print."),
]

EXAMPLES = """
runner logs
runner logs -f | grep cell
runner logs checkpoint-diffing-261123-0907-x7k2 --processes
"""


def command(cli: Cli, run: Run = None, follow: Follow = False, processes: Processes = False) -> int:
    """Print what the agent said and did, and what came of it.

    With --json the lines of transcript.jsonl and journal.jsonl themselves, in the order of
    their times, each with the name of its file.
    """
    from runner.cli.narrate import Narrator
    from runner.cli.views import plain
    from runner.cli.watch import alive
    from runner.errors import UsageError
    from runner.record import follow as lines_of

    path, handle = cli.attach(run)
    if processes:
        for item in cli.engine.logs(handle, follow=follow):
            if cli.json:
                cli.emit(source=item.source, text=item.text)
            else:
                cli.say(f"{item.source:8} {item.text}")
        return 0
    narrator = Narrator()

    def over() -> bool:
        if follow and alive(cli.engine.status(handle)):
            return False
        if follow:
            cli.engine.sync(handle)  # for the last look at the record
        return True

    if not follow:
        try:
            cli.find(path.name)
        except UsageError as error:  # a right is missing, for reading the record
            error.hint += f"; without it: {cli.command('logs', path.name, '--processes')}"
            raise
    with cli.engine.following(handle) if follow else nullcontext():
        for file, line in lines_of(path, from_start=True, stop=over):
            if cli.json:
                cli.emit(file=file, **line)
                continue
            for entry in narrator.apply(file, line):
                cli.say("\n".join(plain(entry)))
    return 0
