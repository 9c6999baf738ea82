"""`python -P -m runner.pod COMMAND [ARGUMENTS]`: one of the commands of a run's pod.

Each is a module of this package with `main(arguments) -> exit status`, and is
imported only when it is asked for: an image has what its own commands need.
"""

from __future__ import annotations

import importlib
import sys

from runner.errors import RunnerError, UsageError
from runner.pod import told, turns

COMMANDS = (
    "agent",
    "cancel",
    "clone",
    "close",
    "hold",
    "install",
    "models",
    "probe",
    "receive",
    "record",
    "remove",
    "retain",
    "sandbox",
    "send",
)


def main(arguments: list[str]) -> int:
    """Run the command; what is wrong with it is told in words, without a traceback."""
    try:
        if not arguments or arguments[0] not in COMMANDS:
            found = repr(arguments[0]) if arguments else "none"
            raise UsageError(f"runner.pod: expected one of {', '.join(COMMANDS)}, found {found}")
        told.take(arguments[0])
        command = importlib.import_module(f"runner.pod.{arguments[0]}")
        with turns.turn(arguments[0]):
            status: int = command.main(arguments[1:])
    except RunnerError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the container's log
        return error.exit_status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
