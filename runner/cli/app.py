"""The commands, each with the options that all have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from runner.cli.context import Cli

PROGRAM = "runner"
COMMANDS = (
    "submit",
    "wait",
    "list",
    "status",
    "logs",
    "attach",
    "open",
    "exec",
    "shell",
    "mcp",
    "fetch",
    "verify",
    "rebuild",
    "cancel",
    "delete",
    "resume",
    "replay",
    "compare",
    "render",
    "doctor",
)
"""Each is the function `command` of the module of its name, with its `EXAMPLES`."""

GROUPS = ("images", "secrets")
"""Each is a module with `COMMANDS`, a function for each sub-command, and their `EXAMPLES` by name;
its docstring is the group's help."""

_VERBATIM = {"allow_interspersed_args": False, "ignore_unknown_options": True}
_CONTEXT: dict[str, dict[str, Any]] = {"exec": _VERBATIM, "set": {"allow_extra_args": True}}

ABOUT = """Runs research experiments that an LLM agent carries out in a notebook.

RUN is a run's id. Where it may be left out, the last run is meant.
Exit status: 0 done, 1 the run failed, 2 wrong usage or config, 3 the infrastructure failed,
4 ended by a bound, 124 timed out, 130 cancelled or Ctrl-C.
"""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Runs = Annotated[
    str | None,
    typer.Option("--runs", metavar="DIR", help="Where the records are, instead of runs/."),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend", metavar="NAME", help="Where sandboxes run: local, docker, kubernetes."
    ),
]
_COMMON = {"json": (Json, False), "runs": (Runs, None), "backend": (Backend, None)}


@cache
def app(asked: str = "") -> Any:
    """The command line, as a click command; of one command alone, where that is what is asked."""
    # Help is plain text: rich's would take most of half a second to import.
    made = typer.Typer(
        name=PROGRAM, help=ABOUT, rich_markup_mode=None, add_completion=False, no_args_is_help=True
    )
    made.callback()(_nothing)
    for name in [asked] if asked in COMMANDS else COMMANDS:
        module = import_module(f"runner.cli.{name}")
        _add(made, name, module.command, module.EXAMPLES)
    for name in () if asked in COMMANDS else GROUPS:
        module = import_module(f"runner.cli.{name}")
        group = typer.Typer(
            help=inspect.getdoc(module), rich_markup_mode=None, no_args_is_help=True
        )
        for inner, function in module.COMMANDS.items():
            _add(group, inner, function, module.EXAMPLES[inner])
        made.add_typer(group, name=name)
    return typer.main.get_command(made)


def _add(to: typer.Typer, name: str, function: Callable[..., int | None], examples: str) -> None:
    to.command(
        name,
        help=inspect.getdoc(function),
        epilog=f"Examples:\n\n\b{examples}",
        context_settings=_CONTEXT.get(name),
        no_args_is_help=False,
    )(_with_common(function))


def _nothing() -> None:
    """No options before the command."""


def _with_common(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """The function as typer is to see it: without `cli`, with the common options."""

    def run(**given: Any) -> int | None:
        common = {name: given.pop(name) for name in _COMMON}
        return function(Cli(**common), **given)

    signature = inspect.signature(function, eval_str=True)
    own = [item for name, item in signature.parameters.items() if name != "cli"]
    common = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in _COMMON.items()
    ]
    own = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own]
    run.__signature__ = signature.replace(parameters=[*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run
