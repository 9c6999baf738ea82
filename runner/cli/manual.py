"""Writes docs/cli.md from the help texts: `python -m runner.cli.manual`."""

from __future__ import annotations

from pathlib import Path

import typer

from runner.cli.app import COMMANDS, PROGRAM, app

WIDE = 100

_HEAD = f"""# The command line

Made from the help texts by `python -m runner.cli.manual`.

`{PROGRAM}` and `python -m runner` are the same. Data goes to stdout: in a pipe plain lines without
control characters, with `--json` one JSON object a line. Progress, notes and errors go to
stderr; with `--json` an error is one object there: `{{"error": {{"message", "hint", "exit_status"}}}}`.

## Exit status

| status | means |
|---|---|
| 0 | done: the run, or what the command was asked for |
| 1 | the run failed |
| 2 | wrong usage or config; nothing was started, nothing is left behind |
| 3 | the infrastructure failed (network, disk, sandbox), a run was interrupted, a record was altered, `doctor` found a problem |
| 4 | the run ended by a bound: turns, tokens or dollars |
| 124 | the run's time was over |
| 130 | the run was cancelled; or Ctrl-C ended this command, and the run goes on |
| 70 | a bug of the runner; the message names the file with its traceback |
| 141 | whoever read the output went away, as in `{PROGRAM} logs \\| head` |

`submit`, `attach`, `resume` and `wait` have the status of the run, `exec` that of its command,
`shell` that of the last one.

## JSON of `submit`, `attach` and `resume`

| `event` | keys | when |
|---|---|---|
| `launch` | `run_id`, `notebook_url`, `open`, `record` | at once (`attach` has none) |
| `state` | `time`, `state`, `reason` | for every change, the steps of the sandbox's start among them |
| `note` | `text` | what this command does: Ctrl-C |
| `end` | `run_id`, `state`, `reason`, `exit_status`, `turns`, `tokens`, `cost_usd`, `seconds`, `score`, `outputs`, `head`, `record` | when the run is over |
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
