"""The view on a terminal: a log that scrolls, and below it what goes on now."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from runner.cli.narrate import Entry, Narrator
from runner.cli.views import SOURCE_LINES, shown
from runner.cli.words import between, count, dollars, ends, gap, seconds, tokens

INDENT = 10
_STYLES = {
    "state": "bold",
    "phase": "dim",
    "says": "dim",
    "asked": "bold magenta",
    "tool": "dim",
    "file": "dim",
    "score": "bold green",
    "note": "yellow",
}


class LiveView:
    """Entries scroll by and stay; the last two lines are kept up to date."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=self._console,
            get_renderable=self._bar,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def show(self, entry: Entry) -> None:
        """Print it above what goes on now."""
        wide = max(self._console.width - INDENT - 4, 20)
        for part in rendered(entry, wide):
            self._console.print(part)

    def note(self, text: str) -> None:
        """Print it there too."""
        self._console.print(Text(text, style="yellow"))

    def tick(self) -> None:
        """Nothing: the last lines refresh themselves."""

    def close(self) -> None:
        """Take the last lines away."""
        self._live.stop()

    def _bar(self) -> RenderableType:
        activity = self._narrator.now
        words = Text(activity.words, overflow="ellipsis", no_wrap=True)
        if activity.since:
            words.append(f"  {seconds(between(activity.since, None))}", style="dim")
        self._spinner.update(text=words)
        line = Text(numbers(self._narrator), style="dim", overflow="ellipsis", no_wrap=True)
        return Group(Text(), self._spinner, Padding(line, (0, 0, 0, 2)))


def numbers(narrator: Narrator) -> str:
    """State, turns, tokens, dollars and time on a line."""
    run = narrator.run
    agent = run.plan.get("experiment", {}).get("agent", {})
    parts = [run.state]
    if run.turns:
        parts.append(f"turn {run.turns} of {agent.get('max_turns') or '?'}")
    if used := tokens(run.tokens):
        cost, most = dollars(run.cost_usd), agent.get("max_cost_usd")
        parts += [count(used, "token"), f"{cost} of {dollars(most)}" if most else cost]
    if run.created:
        parts.append(seconds(between(run.created, None)))
    return " · ".join(part for part in parts if part)


def rendered(entry: Entry, wide: int) -> list[RenderableType]:
    """An entry as it is printed; its lines are cut after `wide` columns."""
    body = shown(entry, wide)
    parts: list[RenderableType] = []
    if entry.kind in ("says", "asked", "cell", "shell", "markdown"):
        parts.append(Text())
    if entry.kind == "result":
        parts.append(_title(entry, "dim" if entry.ok else "red"))
        return [*parts, *(_line(line, "  ", "" if entry.ok else "red") for line in body)]
    if entry.kind in ("cell", "shell", "markdown"):
        parts.append(_title(entry, "cyan"))
        return [*parts, *_source(entry, wide)]
    style = _STYLES.get(entry.kind, "")
    if entry.kind == "state" and entry.ok is not None:
        style = "bold green" if entry.ok else "bold red"
    parts.append(_title(entry, style))
    if body:
        parts.append(Padding(Text("\n".join(body)), (0, 0, 0, INDENT)))
    return parts


_PAD = " " * INDENT


def _source(entry: Entry, wide: int) -> Iterator[Text]:
    """Code in its colours; of long code head and tail."""
    language = {"cell": "python", "shell": "bash", "markdown": "markdown"}[entry.kind]
    code = Syntax("", language, theme="ansi_dark").highlight("\n".join(entry.body))
    code.rstrip()
    lines = list(code.split("\n")) if entry.body else []
    most = SOURCE_LINES if entry.kind != "markdown" else len(lines)
    head, tail = ends(len(lines), most)
    left = len(lines) - head - tail
    between = [Text(gap(left), style="dim")] if left else []
    for line in (*lines[:head], *between, *lines[len(lines) - tail :]):
        line.truncate(wide, overflow="ellipsis")
        yield Text.assemble(_PAD, ("│ ", "cyan dim"), line)


def _title(entry: Entry, style: str) -> RenderableType:
    """The time, and beside it the title, as many lines as it needs."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(Text(f"{entry.clock:8}", style="dim"), Text(entry.title, style=style))
    return row


def _line(text: str, mark: str, style: str) -> Text:
    return Text(_PAD + mark + text, style=style)
