"""`runner doctor`."""

from __future__ import annotations

import sys

from runner.cli.context import Cli

PROBLEM = 3
_MARKS = {True: ("ok", "32"), False: ("problem", "31"), None: ("note", "33")}

EXAMPLES = """
runner doctor
runner doctor --json | jq 'select(.ok == false)'
"""


def command(cli: Cli) -> int:
    """Look for what would stop a run, and say what mends it.

    The exit status is 0 where nothing would, 3 otherwise. Of secrets only the names are shown.
    """
    from runner.cli.checks import checks

    good = True
    for check in checks(cli):
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
