"""Options and arguments that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="The run; the last one if left out.", show_default=False),
]
ThisRun = Annotated[str, typer.Argument(metavar="RUN", help="The run.", show_default=False)]
MaxTurns = Annotated[
    int | None,
    typer.Option("--max-turns", min=1, metavar="N", help="End after N replies of the model."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, metavar="N", help="End after N tokens.")
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost-usd", metavar="USD", help="End after so many dollars."),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="End after so long, counted from the kernel's readiness: 90, 30m, 2h.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the experiment; several values of a key make a run for each.",
    ),
]
Sweep = Annotated[
    str | None, typer.Option("--sweep", metavar="SWEEP", help="Only runs of this sweep.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Start it, and return at once.")]


def bounds(
    max_turns: int | None, max_tokens: int | None, max_cost_usd: float | None, timeout: str | None
) -> dict[str, Any]:
    """The bounds that were given, as keys of the experiment."""
    given = {
        "agent.max_turns": max_turns,
        "agent.max_tokens": max_tokens,
        "agent.max_cost_usd": max_cost_usd,
        "sandbox.timeout": _duration(timeout),
    }
    return {key: value for key, value in given.items() if value is not None}


def _duration(text: str | None) -> int | float | str | None:
    """A plain number is seconds, as it is in the file."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text
