"""Many runs at once: from one file, or record, to a run for each combination of values.

All of them are checked before the first one starts. Nothing here waits for a GPU: on a
cluster the queue or the scheduler does, and on one machine all of them start at once.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.backends.base import Backend, Handle, Progress, Selector, Status, sweep_of
from runner.config import sweep as config
from runner.config.load import load_all
from runner.errors import RunnerError, RunNotFound, UsageError
from runner.lookups import LookUps
from runner.names import new_sweep_id, numbered
from runner.plan import SweepPart
from runner.settings import Settings
from runner.submission import Submission, from_experiment, is_record, repeat, resume, start

QUEUES = ("kubernetes",)
"""Backends where what has no room yet waits for it."""
ON_ONE_MACHINE = 8
"""Runs of a sweep on the others."""
AT_ONCE = 4
"""Runs whose objects are made at the same time."""


def prepare_all(
    source: Path,
    settings: Settings,
    overrides: Mapping[str, Any],
    sets: config.Keys,
    progress: Progress = lambda _: None,
) -> list[Submission]:
    """Check and resolve every run of a file, or of a record that is repeated.

    One run is an ordinary one; several are a sweep and know it. Raises as
    `submission.prepare` does, for the first one that is refused, and UsageError for more
    than the backend takes.
    """
    if is_record(source):
        return _repeated(source, settings, overrides, sets, progress)
    variants = load_all(source, overrides, sets)
    _check_room(len(variants), settings)
    looked = LookUps(settings)
    found = [
        from_experiment(
            variant.experiment, settings, source.parent, str(source), progress, looked=looked
        )
        for variant in variants
    ]
    return _grouped(found, [variant.values for variant in variants], settings)


def _repeated(
    source: Path,
    settings: Settings,
    overrides: Mapping[str, Any],
    sets: config.Keys,
    progress: Progress,
) -> list[Submission]:
    combinations = config.combinations(sets)
    _check_room(len(combinations), settings)
    found = [repeat(source, settings, {**values, **overrides}, progress) for values in combinations]
    return _grouped(found, [config.own(values, sets) for values in combinations], settings)


def _check_room(count: int, settings: Settings) -> None:
    if count > ON_ONE_MACHINE and settings.backend not in QUEUES:
        raise UsageError(
            f"{count} runs would all start at once on this machine, where nothing queues them; "
            f"{settings.backend} takes {ON_ONE_MACHINE} of a sweep",
            hint="submit it to a cluster, where they wait for room: --backend kubernetes",
        )


def _grouped(
    found: list[Submission], values: Sequence[Mapping[str, Any]], settings: Settings
) -> list[Submission]:
    """The runs with their places in the sweep; a single one as it is."""
    if len(found) == 1:
        return found
    first = found[0].plan
    if settings.backend not in QUEUES and any(item.plan.gpus for item in found):
        raise UsageError(
            f"all {len(found)} runs of the sweep would be given the same GPUs of this machine",
            hint="submit it to a cluster, where each waits for its own: --backend kubernetes",
        )
    sweep_id = new_sweep_id(first.name, datetime.now(UTC))
    parts = (
        SweepPart(id=sweep_id, number=number, of=len(found), values=own)
        for number, own in enumerate(values, 1)
    )
    return [_placed(item, part) for item, part in zip(found, parts, strict=True)]


def _placed(submission: Submission, part: SweepPart) -> Submission:
    run_id = numbered(part.id, part.number, part.of)
    plan = submission.plan.model_copy(update={"run_id": run_id, "sweep": part})
    return replace(submission, plan=plan)


def rest_of(
    sweep_id: str, submissions: Sequence[Submission], settings: Settings, backend: Backend
) -> list[Submission]:
    """Those runs of a sweep whose start was cut off which have not begun, as runs of it.

    Raises RunNotFound where there is none of it, UsageError where it is another sweep, or whole.
    """
    if not submissions[0].plan.sweep:
        raise UsageError(
            f"this makes one run, and sweep {sweep_id} has several",
            hint="give the same file and the same --set as then",
        )
    there = {
        status.run_id: status
        for status in backend.list(Selector(sweep=sweep_id))
        if sweep_of(status.run)
    }
    if not there:
        raise RunNotFound(f"there is no run of a sweep {sweep_id!r}", hint="`runner list`")
    left = []
    for item in submissions:
        assert item.plan.sweep is not None  # noqa: S101 - as the first one has it
        placed = _placed(item, item.plan.sweep.model_copy(update={"id": sweep_id}))
        known = there.get(placed.plan.run_id)
        if known is not None:
            _check_same(sweep_of(known.run), item.plan.sweep)
        if known is None:
            _sweep_up(Path(settings.runs) / placed.plan.run_id)
        if known is None or _never_began(known, backend):
            left.append(placed)
    if not left:
        raise UsageError(
            f"sweep {sweep_id} is whole: all of its runs were started",
            hint=f"runner attach {sweep_id}",
        )
    return left


def _check_same(known: Mapping[str, Any], part: SweepPart) -> None:
    if known["of"] != part.of or config.noted(known["values"]) != config.noted(part.values):
        raise UsageError(
            f"this is not what sweep {known['id']} was made of: its run {known['number']} of "
            f"{known['of']} has {config.words(known['values'])}, and now it would be "
            f"{part.number} of {part.of} with {config.words(part.values)}",
            hint="submit it as a sweep of its own, without --sweep",
        )


def _never_began(status: Status, backend: Backend) -> bool:
    """Whether its client was killed before it let the run go."""
    if status.state != "interrupted" or status.run.attempts:
        return False
    handle = backend.attach(status.run_id)
    backend.sync(handle)  # one that is over, and whose Job is gone, may have been carried out
    now = backend.status(handle)
    return now.state == "interrupted" and not now.run.attempts


def _sweep_up(path: Path) -> None:
    """Remove what a killed client has left of a record that it had just begun to make."""
    if path.is_dir() and not is_record(path):
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Beginning:
    """How far the start of a sweep came; what was not begun has left nothing."""

    started: list[Handle] = field(default_factory=list)
    failed: list[tuple[Submission, RunnerError]] = field(default_factory=list)


def start_all(
    submissions: Sequence[Submission],
    settings: Settings,
    backend: Backend,
    *,
    stopped: Callable[[], bool],
    begun: Beginning,
) -> Iterator[tuple[Submission, Handle]]:
    """Start the runs, a few at a time; yields each when it is started, and notes it in `begun`.

    After the first that fails, or once `stopped`, no other one is begun; those that are
    being started are waited for.
    """
    over = threading.Event()

    def one(submission: Submission) -> Handle | None:
        if over.is_set() or stopped():
            return None
        record = Path(settings.runs).absolute() / submission.plan.run_id
        try:
            if is_record(record):  # of one that never began; see `rest_of`
                return resume(record, settings, {})
            return start(submission, settings, backend)
        except BaseException:
            over.set()
            raise

    with ThreadPoolExecutor(AT_ONCE if settings.backend in QUEUES else 1) as pool:
        futures = {pool.submit(one, item): item for item in submissions}
        for future in as_completed(futures):
            submission = futures.pop(future)
            try:
                handle = future.result()
            except RunnerError as error:
                begun.failed.append((submission, error))
                continue
            if handle is not None:
                begun.started.append(handle)
                yield submission, handle
