"""Where what happens is shown: plain lines for a pipe, JSON for a program."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from runner.cli.context import Cli
from runner.cli.narrate import Entry, Narrator
from runner.cli.words import between, cut, seconds

SOURCE_LINES, OUTPUT_LINES = 16, 10
"""Of a cell, and of what it printed, as shown; the record has all."""
_MOST = {"cell": SOURCE_LINES, "shell": SOURCE_LINES, "result": OUTPUT_LINES}
WIDE = 160
QUIET_S = 30.0
"""After so long without a line, the wait is explained; then after twice as long."""


class View(Protocol):
    """Shows entries as they come."""

    def show(self, entry: Entry) -> None:
        """Show something that happened."""
        ...

    def note(self, text: str) -> None:
        """Say something that is about this command, not about the run."""
        ...

    def tick(self) -> None:
        """Know that time went by."""
        ...

    def close(self) -> None:
        """Leave the screen as it is to stay."""
        ...


def view_of(cli: Cli, narrator: Narrator) -> View:
    """The view that fits where stdout goes."""
    if cli.json:
        return JsonView(cli, narrator)
    if sys.stdout.isatty():
        from runner.cli.live import LiveView

        return LiveView(narrator)
    return PlainView(cli, narrator)


def shown(entry: Entry, wide: int = WIDE) -> list[str]:
    """The body of an entry, as much of it as is shown."""
    return cut(entry.body, _MOST[entry.kind], wide) if entry.kind in _MOST else list(entry.body)


class PlainView:
    """A line for each thing that happened, with what belongs to it indented below."""

    def __init__(self, cli: Cli, narrator: Narrator) -> None:
        self._cli, self._narrator = cli, narrator
        self._last, self._patience = time.monotonic(), QUIET_S

    def show(self, entry: Entry) -> None:
        """Print it."""
        self._last, self._patience = time.monotonic(), QUIET_S
        self._cli.say("\n".join(plain(entry)))

    def note(self, text: str) -> None:
        """Print it to stderr."""
        self._cli.note(text)

    def tick(self) -> None:
        """After a while without anything, say what it waits for."""
        now = time.monotonic()
        if now - self._last > self._patience and self._narrator.now.words:
            self._last, self._patience = now, self._patience * 2
            activity = self._narrator.now
            self._cli.say(f"          … {activity.words}, {seconds(between(activity.since, None))}")

    def close(self) -> None:
        """Nothing is left to do."""


def plain(entry: Entry) -> list[str]:
    """An entry as lines without colours."""
    return [
        f"{entry.clock:8}  {entry.title}",
        *(f"          | {line}".rstrip() for line in shown(entry)),
    ]


class JsonView:
    """One JSON object for each change of state, of the sandbox's start too."""

    def __init__(self, cli: Cli, narrator: Narrator) -> None:
        self._cli, self._narrator = cli, narrator

    def show(self, entry: Entry) -> None:
        """Print it, if the state has changed."""
        if entry.kind == "phase":
            self._cli.emit(event="state", time=entry.time, state="preparing", reason=entry.title)
        elif entry.kind == "state":
            run = self._narrator.run
            self._cli.emit(event="state", time=entry.time, state=run.state, reason=run.reason)

    def note(self, text: str) -> None:
        """Print it as an event."""
        self._cli.emit(event="note", text=text)

    def tick(self) -> None:
        """Nothing is to be said."""

    def close(self) -> None:
        """Nothing is left to do."""
