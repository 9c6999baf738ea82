"""`runner shell`."""

from __future__ import annotations

import contextlib
import shlex
import sys
import uuid
from pathlib import PurePath

from runner.cli.context import Cli
from runner.cli.options import ThisRun

EXAMPLES = """
runner shell checkpoint-diffing-261123-0907-x7k2
echo 'cd outputs; ls -l' | runner shell checkpoint-diffing-261123-0907-x7k2
"""


def command(cli: Cli, run: ThisRun) -> int:
    """Run shell commands in the sandbox, line by line.

    Every line is a shell of its own: the directory is kept from one to the next, variables are
    not, and there is no terminal, so no editors. `exit`, or the end of the input, leaves; the
    exit status is that of the last command. Ctrl-C interrupts a command. What is run stands in
    the run's journal.
    """
    from runner.cli.exec import execute
    from runner.cli.failures import INTERRUPTED
    from runner.cli.sandbox import connected

    _, handle = cli.attach(run)
    status, place = 0, "."
    with connected(cli, handle, cli.engine.status(handle)) as session:
        while (line := _next(f"{handle.run_id} {PurePath(place).name or '/'}$ ")) is not None:
            words = line.split()
            if words[:1] == ["exit"]:
                return int(words[1]) & 0xFF if words[1:] and words[1].isdigit() else status
            if not words:
                continue
            keeper = PlaceKeeper(uuid.uuid4().hex)
            try:
                wrapped = keeper.wrapped(place, line)
                status = execute(cli, session, wrapped, filtered=keeper.filtered)
            except KeyboardInterrupt:
                status = INTERRUPTED
                cli.note("")
            place = keeper.place or place
    return status


def _next(prompt: str) -> str | None:
    """The next line of the input, asked for on a terminal; None at its end."""
    if not sys.stdin.isatty():
        return sys.stdin.readline() or None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() its history
    while True:
        try:
            return input(prompt)
        except KeyboardInterrupt:
            print(file=sys.stderr)  # noqa: T201 - as shells do
        except EOFError:
            print(file=sys.stderr)  # noqa: T201
            return None


class PlaceKeeper:
    """Has a command tell at its end where it is, and keeps that out of its output."""

    def __init__(self, mark: str) -> None:
        self._mark = f"\n{mark}"
        self._held = ""

    def wrapped(self, place: str, line: str) -> str:
        """The command, begun in `place`."""
        tell = f'printf "\\n%s%s\\n" {self._mark.strip()} "$PWD"'
        return f"cd -- {shlex.quote(place)} || exit\ntrap {shlex.quote(tell)} EXIT\n{line}"

    def filtered(self, text: str) -> str:
        """What of the output so far can be shown."""
        self._held += text
        at = self._held.find(self._mark)
        if at < 0:
            at = next(
                n
                for n in range(max(len(self._held) - len(self._mark), 0), len(self._held) + 1)
                if self._mark.startswith(self._held[n:])
            )
        shown, self._held = self._held[:at], self._held[at:]
        return shown

    @property
    def place(self) -> str:
        """Where it was at its end; "" if it did not tell."""
        if not self._held.startswith(self._mark):
            return ""
        return self._held.removeprefix(self._mark).split("\n")[0]

    def rest(self) -> str:
        """What was held back for nothing."""
        return "" if self.place else self._held
