"""What is shown while images are built and pushed: on a terminal one line that changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.cli.context import Cli

if TYPE_CHECKING:
    from runner.images.build import Progress

_AT_WORK = ("FROM", "COPY", "RUN")
"""Instructions that take time; the others only write down what holds."""


@contextmanager
def shown(cli: Cli) -> Iterator[Callable[[Progress], None]]:
    """Takes the progress of a build: each step a line, and on a terminal what it prints."""
    with shown_lines(cli) as line:

        def say(progress: Progress) -> None:
            where = f"{progress.image} {progress.step}/{progress.steps}"
            if progress.line:
                line(f"{where}  {progress.line}")
            elif progress.instruction.startswith(_AT_WORK):
                cli.note(f"{where}  {progress.instruction[:100]}")

        yield say


@contextmanager
def shown_lines(cli: Cli) -> Iterator[Callable[[str], None]]:
    """Takes lines of which only the last one matters: shown on a terminal alone."""
    if cli.json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with console.status("") as status:
        yield lambda line: status.update(Text(line, overflow="ellipsis", no_wrap=True))
