"""Whatever goes wrong becomes words on stderr and an exit status here, and nowhere else."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence

import typer

from runner import __version__
from runner.errors import RunnerError

INTERRUPTED = 130
BROKEN_PIPE = 141
BUG = 70
"""What sysexits.h calls EX_SOFTWARE: none of the statuses that say something about a run."""


def run(argv: Sequence[str] | None) -> int:
    """Run a command line; returns the exit status, and raises nothing."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in own
    try:
        for stream in (sys.stdout, sys.stderr):
            getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except RunnerError as error:
        return _say(error.message, error.hint, error.exit_status, as_json=as_json)
    except typer.TyperException as error:
        return _say(error.format_message(), _usage(error), 2, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", "", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        # Python flushes stdout once more when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return _bug(error, as_json=as_json)


def _run(arguments: list[str]) -> int:
    from runner.cli.app import PROGRAM, app

    command = app(*arguments[:1])
    try:
        with command.make_context(PROGRAM, arguments) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as done:
        return done.exit_code


def _say(message: str, hint: str, status: int, *, as_json: bool) -> int:
    if as_json:
        said = {"error": {"message": message, "hint": hint, "exit_status": status}}
        print(json.dumps(said), file=sys.stderr, flush=True)  # noqa: T201
        return status
    red, plain = ("\x1b[31m", "\x1b[0m") if _colours() else ("", "")
    print(f"{red}error:{plain} {message}", file=sys.stderr)  # noqa: T201
    if hint:
        print(f"  → {hint}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
    return status


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else ""


def _bug(error: Exception, *, as_json: bool) -> int:
    """Keep the traceback in a file; it may be asked for."""
    versions = f"runner {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    with tempfile.NamedTemporaryFile(
        "w", prefix="runner-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(versions)
        traceback.print_exception(error, file=file)
    words = " ".join(str(error).split())[:200]
    return _say(
        f"this is a bug of the runner: {type(error).__name__}: {words}",
        f"the traceback is in {file.name}; please report it",
        BUG,
        as_json=as_json,
    )
