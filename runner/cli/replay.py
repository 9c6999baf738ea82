"""`runner replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

if TYPE_CHECKING:
    from runner.api.replay import Compared

DIFFERS = 1
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="NUMBER",
        help="How far printed numbers may be apart, relative to the larger one; 1e-6 if left out.",
    ),
]

EXAMPLES = """
runner replay checkpoint-diffing-261123-0907-x7k2
runner replay --tolerance 0.01
runner replay --backend local --json
"""


def command(cli: Cli, run: Run = None, tolerance: Tolerance = None) -> int:
    """Carry a run's cells out again in a fresh sandbox, and say what came out differently.

    The sandbox has the same commits, packages, models, inputs and image. Cells, commands and
    files that the agent wrote come in the order in which they came; no model is asked. What was
    interrupted is left out. The replay is a run of its own, with a record. The exit status is 0
    where everything is the same, or its numbers are within the tolerance, and 1 where something
    differs.
    """
    from runner.api.replay import replay
    from runner.compare.outputs import TOLERANCE, Verdict
    from runner.errors import UsageError

    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance: expected a number from 0 up to 1, found {tolerance}")
    path = cli.find(run)
    found = replay(path, cli.settings, cli.note, TOLERANCE if tolerance is None else tolerance)
    status = DIFFERS if found.verdict is Verdict.DIFFERS else 0
    if cli.json:
        cli.emit(
            run_id=found.run_id,
            of=found.of,
            verdict=_word(found.verdict),
            compared=[_json(item) for item in found.compared],
            left_out=found.left_out,
            record=str(found.record),
        )
        return status
    for item in found.compared:
        words = f": {item.difference.words}" if item.difference.words else ""
        cli.say(f"{_word(item.difference.verdict):8}{item.kind:7}{item.what}{words}")
    for words in found.left_out:
        cli.say(f"{'not run':8}{words}")
    counts = [sum(item.difference.verdict is one for item in found.compared) for one in Verdict]
    told = [f"{n} {_word(one)}" for one, n in zip(Verdict, counts, strict=True)]
    cli.say(f"\n{', '.join(told)}, {len(found.left_out)} not run")
    cli.pair("replay", found.run_id)
    cli.pair("record", str(found.record))
    return status


def _json(item: Compared) -> dict[str, Any]:
    found = item.difference
    told = {"verdict": _word(found.verdict), "words": found.words}
    times = {"before_s": item.before_s, "after_s": item.after_s}
    return {"kind": item.kind, "what": item.what, **told, **times}


def _word(verdict: int) -> str:
    return ("same", "close", "differs")[verdict]
