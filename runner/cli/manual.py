"""Writes docs/cli.md from the help texts: `python -m runner.cli.manual`."""

from __future__ import annotations

from pathlib import Path

import typer

from runner.cli.app import COMMANDS, PROGRAM, app

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
    for name in COMMANDS:
        command = group.commands[name]
        context = typer.Context(command, info_name=name, parent=top)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {name}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "cli.md").write_text(manual(), encoding="utf-8")
