"""`runner doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.errors import UsageError

PROBLEM = 3
_MARKS = {True: ("ok", "32"), False: ("problem", "31"), None: ("note", "33")}

Probe = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="On kubernetes: start pods for a moment, which try images and network policies.",
    ),
]

EXAMPLES = """
runner doctor
runner doctor --backend kubernetes --probe
runner doctor --json | jq 'select(.ok == false)'
"""


def command(cli: Cli, probe: Probe = False) -> int:
    """Look for what would stop a run, and say what mends it.

    Nothing is changed, but that --probe starts pods and removes them. The exit status is 0
    where nothing would stop a run, 3 otherwise. Of secrets only the names are shown.
    """
    from runner.cli.checks import checks

    if probe and cli.settings.backend != "kubernetes":
        raise UsageError(
            f"--probe starts pods, and the backend is {cli.settings.backend}",
            hint="runner doctor --backend kubernetes --probe",
        )
    good = True
    for check in checks(cli, probe=probe):
        good = good and check.ok is not False
        if cli.json:
            cli.emit(**vars(check))
            continue
        word, colour = _MARKS[check.ok]
        mark = f"\x1b[{colour}m{word:8}\x1b[0m" if sys.stdout.isatty() else f"{word:8}"
        cli.say(f"{mark} {check.name}: {check.found}")
        if check.mend:
            cli.say(f"{'':8}   → {check.mend}")
    return 0 if good else PROBLEM
