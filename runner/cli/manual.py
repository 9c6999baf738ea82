"""Writes docs/cli.md from the help texts: `python -m runner.cli.manual`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from runner.cli.app import PROGRAM, app

WIDE = 100

_HEAD = f"""# The command line

Made from the help texts by `python -m runner.cli.manual`.

`{PROGRAM}` and `python -m runner` are the same. Data goes to stdout: in a pipe plain lines without
control characters, with `--json` one JSON object a line. Progress, notes and errors go to stderr.
[exit-status.md](exit-status.md) says what a status means, and what the JSON lines are.
"""


def manual() -> str:
    """The page: what holds for all commands, then the help of each."""
    group = app()
    parts = [_HEAD]
    top = typer.Context(group, info_name=PROGRAM, terminal_width=WIDE, max_content_width=WIDE)
    for path, command, context in _commands(group, top):
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {path}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _commands(
    group: Any, parent: typer.Context, path: str = ""
) -> Iterator[tuple[str, Any, typer.Context]]:
    """Every command, those of groups as `images build`."""
    for name, command in group.commands.items():
        context = typer.Context(command, info_name=name, parent=parent)
        if hasattr(command, "commands"):
            yield from _commands(command, context, f"{path}{name} ")
        else:
            yield f"{path}{name}", command, context


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "cli.md").write_text(manual(), encoding="utf-8")
