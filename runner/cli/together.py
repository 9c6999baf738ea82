"""Several runs together: what is told of them, and what is done to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from runner.backends.base import Status, sweep_of
from runner.cli.words import between, count, dollars, hours, seconds
from runner.config.sweep import words
from runner.errors import RunnerError
from runner.record.run import RunState

T = TypeVar("T")

AT_ONCE = 4
"""Runs that something is done to at the same time."""
STATES = (
    "created", "preparing", "starting", "running", "ending",
    "done", "failed", "bound", "timeout", "cancelled", "interrupted",
)  # fmt: skip
WORST_LAST = (0, 4, 130, 124, 1, 3)


def worse(one: int, other: int) -> int:
    """The worse of two exit statuses."""
    return max(one, other, key=lambda status: (*WORST_LAST, status).index(status))


def counts(found: Sequence[Status]) -> str:
    """How many are in which state: `3 running, 5 created`."""
    states = Counter(status.state for status in found)
    return ", ".join(f"{states[state]} {state}" for state in STATES if states[state])


def cost(found: Sequence[Status]) -> float | None:
    """Dollars for the models of all together, as far as they are known; None where none is."""
    known = [status.run.cost_usd for status in found if status.run.cost_usd is not None]
    return sum(known) if known or not found else None


def own_words(run: RunState) -> str:
    """What a run of a sweep has for itself."""
    return words(sweep_of(run).get("values") or {})


def spent(found: Sequence[Status]) -> str:
    """What all of them cost, and how long it was from the first to the last."""
    held_s = [status.run.gpus["held_s"] for status in found if status.run.gpus["count"]]
    gpus = f" · {hours(sum(held_s))}" if held_s else ""
    created = [status.run.created for status in found if status.run.created]
    ended = [status.run.ended for status in found if status.run.ended]
    took = seconds(between(min(created), max(ended))) if created and ended else ""
    return f"{dollars(cost(found))}{gpus}{f' · {took}' if took else ''}"


def heading(sweep_id: str, found: Sequence[Status]) -> str:
    """A sweep on one line: how many of its runs are where, and what they cost."""
    of = sweep_of(found[0].run)["of"]
    runs = count(of, "run") if len(found) == of else f"{len(found)} of {count(of, 'run')}"
    return f"{sweep_id}  {runs}: {counts(found)} · {dollars(cost(found))}"


def each(found: Sequence[Status], do: Callable[[Status], T]) -> Iterator[T]:
    """Do it to each run, a few at a time; yields what came of it.

    One that fails keeps none of the others from it: the first error is raised when all of
    them had their turn, and says how many failed.
    """
    errors: list[tuple[str, RunnerError]] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(do, status): status.run_id for status in found}
        for future in as_completed(futures):
            try:
                result = future.result()
            except RunnerError as error:
                errors.append((futures[future], error))
                continue
            yield result
    if errors:
        run_id, first = errors[0]
        first.message = f"{len(errors)} of {len(found)} runs: {run_id}: {first.message}"
        raise first
