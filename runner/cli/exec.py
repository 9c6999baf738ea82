"""`runner exec`."""

from __future__ import annotations

import math
import shlex
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import ThisRun

if TYPE_CHECKING:
    from runner.session import Session

Words = Annotated[
    list[str], typer.Argument(metavar="CMD", help="The command, best after --.", show_default=False)
]
SIGNALLED = 128
"""As in a shell: 128 and the number of the signal that ended the command."""
KILLED = SIGNALLED + 9
END_S = 10.0

EXAMPLES = """
runner exec checkpoint-diffing-261123-0907-x7k2 -- nvidia-smi
runner exec checkpoint-diffing-261123-0907-x7k2 -- 'ls outputs | wc -l'
"""


def command(cli: Cli, run: ThisRun, cmd: Words) -> int:
    """Run a command in the workspace of a run's sandbox.

    Its output comes as it is written, stdout and stderr apart, and its exit status is this
    command's. One word is a line for the shell; several are passed on as they are. What is run
    stands in the run's journal. Options of `exec` go before RUN.
    """
    from runner.cli.sandbox import connected

    words = cmd[1:] if cmd[:1] == ["--"] else cmd
    if not words:
        raise typer.BadParameter("name a command after --")
    _, handle = cli.attach(run)
    line = words[0] if len(words) == 1 else shlex.join(words)
    with connected(cli, handle, cli.engine.status(handle)) as session:
        return execute(cli, session, line)


def execute(
    cli: Cli, session: Session, line: str, filtered: Callable[[str], str] = lambda text: text
) -> int:
    """Run one line of shell, writing what it writes; Ctrl-C interrupts it.

    `filtered` sees what goes to stdout before it is written.
    """
    op = uuid.uuid4().hex
    session.submit({"kind": "shell", "command": line}, op=op, timeout_s=0.0)
    try:
        for item in session.stream(op, timeout_s=math.inf):
            if item["type"] == "shell_output":
                text = item["text"] if item["stream"] == "stderr" else filtered(item["text"])
                _write(cli, item["stream"], text)
    except KeyboardInterrupt:
        session.interrupt(op)
        raise
    result = session.wait(op, timeout_s=END_S)
    if result.exit is None:
        cli.note(f"it ended without an exit status: {result.state} {result.reason}".rstrip())
    status = KILLED if result.exit is None else result.exit
    status = SIGNALLED - status if status < 0 else status
    if cli.json:
        cli.emit(event="end", exit_status=status, state=result.state, reason=result.reason)
    return status


def _write(cli: Cli, stream: str, text: str) -> None:
    if not text:
        return
    if cli.json:
        cli.emit(event="output", stream=stream, text=text)
        return
    out = sys.stderr if stream == "stderr" else sys.stdout
    out.write(text)
    out.flush()
