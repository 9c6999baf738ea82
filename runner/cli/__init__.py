"""The command line: one file per command, and the only place that prints or exits.

    app.py        the commands and their common options
    context.py    Cli: what a command is handed
    failures.py   whatever goes wrong → words and an exit status, in one place
    words.py      numbers, times and sizes as people read them (pure)
    narrate.py    lines of a record → what happened, in words (pure)
    summary.py    how a run ended or stands, in words (pure)
    watch.py      follow a run to its end; Ctrl-C
    views.py      where what happened is shown: lines or JSON; live.py: a terminal
    options.py    options that several commands have

Each command imports what it needs when it runs, so that `--help` answers at once.
docs/cli.md is made from the help texts, docs/exit-status.md says what a status means.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

OBJECTS = 100_000
"""As many new objects as let Python look for cycles. With its 700, imports and a list of 1,000
runs have it look hundreds of times, which is a sixth of the command's time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    gc.set_threshold(OBJECTS)
    from runner.cli.failures import run

    return run(argv)
