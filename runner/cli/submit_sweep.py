"""`runner submit` of more than one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cli.context import Cli
from runner.cli.failures import INTERRUPTED
from runner.cli.group import Group, next_words, showing
from runner.cli.interrupts import Interrupts
from runner.config.sweep import words
from runner.errors import InfrastructureError, RunnerError
from runner.sweep import Beginning, start_all

if TYPE_CHECKING:
    from runner.backends.base import Handle
    from runner.cli.group import Show
    from runner.submission import Submission


def submit(cli: Cli, runs: Sequence[Submission], again: str, *, detach: bool) -> int:
    """Start the runs of a sweep, and follow them; `again` is the command that starts the rest."""
    from runner.backends.local.backend import NOT_ISOLATED

    part = runs[0].plan.sweep
    assert part is not None  # noqa: S101 - there are several
    begun = Beginning()
    with Interrupts() as interrupts, showing(cli) as show:
        if not cli.json:
            show.say(cli.command("list", "--sweep", part.id))
            show.say(f"sweep {part.id}: {part.of} runs")
        for submission, handle in start_all(
            runs,
            cli.settings,
            cli.engine,
            stopped=lambda: bool(interrupts.times),
            begun=begun,
        ):
            _announce(cli, show, submission, handle)
            show.counts(f"started {len(begun.started)} of {len(runs)}")
        if begun.failed:
            raise _unfinished(cli, runs, begun, again)
        if len(begun.started) < len(runs):
            cli.note(_so_far(cli, runs, begun, again))
            return INTERRUPTED
        if cli.settings.backend == "local":
            cli.note(f"note: {NOT_ISOLATED}")
        return 0 if detach else Group(cli, part.id, interrupts, show).run()


def _announce(cli: Cli, show: Show, submission: Submission, handle: Handle) -> None:
    from runner.cli.submit import launch

    part = submission.plan.sweep
    assert part is not None  # noqa: S101
    if cli.json:
        cli.emit(**launch(cli, handle), sweep=part.model_dump(mode="json"))
    else:
        show.say(f"run {handle.run_id}  {words(part.values)}")


def _unfinished(cli: Cli, runs: Sequence[Submission], begun: Beginning, again: str) -> RunnerError:
    """The first error; with what became of the others, if there are any."""
    submission, error = begun.failed[0]
    if not begun.started:
        return error
    # Whatever refused this one: status 2 would say that nothing was started.
    return InfrastructureError(
        f"{submission.plan.run_id} could not be started: {error.message}\n"
        f"{_so_far(cli, runs, begun, again)}",
        hint=error.hint,
    )


def _so_far(cli: Cli, runs: Sequence[Submission], begun: Beginning, again: str) -> str:
    part = runs[0].plan.sweep
    assert part is not None  # noqa: S101
    started = len(begun.started)
    if not started:
        return f"none of {len(runs)} runs was started"
    return (
        f"{started} of {len(runs)} runs were started and go on; the others left nothing\n"
        f"  {again} --sweep {part.id}  starts the others\n{next_words(cli, part.id)}"
    )
