"""A clock that is set back while a run goes on does not give it, or take from it, time.

What counts while processes live is the monotonic clock, which nobody sets. Across processes it
is the times of the record's lines: a file's worth of them is all that can be tried here, as a
machine's clock is not set for a test, and time namespaces leave it alone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.pod.spent import earlier
from runner.record.run import fold
from runner.record.times import spent_s
from runner.session import Result

HOUR = 3600.0


def at(seconds: float) -> str:
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()


def run(*times: float) -> list[dict[str, Any]]:
    """A run that begins at 0 and has a line at each of these times."""
    plan = {"experiment": {"sandbox": {"gpu": ["A100"]}}}
    return [
        {"time": at(0), "type": "run", "plan": plan},
        {"time": at(0), "type": "attempt"},
        {"time": at(0), "type": "sandbox", "boot": "b"},
        {"time": at(0), "type": "state", "state": "running"},
        *({"time": at(time), "type": "message", "role": "user"} for time in times),
    ]


def test_a_run_has_used_the_time_that_its_lines_show() -> None:
    assert spent_s(run(10, 20)) == 20
    assert spent_s(run(10, 20 - HOUR, 30 - HOUR)) == 20  # 10 s before, 10 s after
    again = [{"time": at(30 - HOUR), "type": "attempt"}]
    assert spent_s([*run(10), *again, {"time": at(0), "type": "sandbox", "boot": "c"}]) == 10


def test_a_pod_has_used_the_time_that_its_journal_shows() -> None:
    ready = {"seq": 1, "boot": "b", "time": at(0), "type": "kernel", "event": "started"}
    times = (10, 20 - HOUR, 30 - HOUR)
    lines = [
        {"seq": seq, "boot": "b", "time": at(t), "type": "end"} for seq, t in enumerate(times, 2)
    ]
    assert earlier([ready, *lines]) == (20, 4)


def test_gpus_are_held_for_the_time_that_the_lines_show() -> None:
    assert fold(run(10, 20 - HOUR, 30 - HOUR)).gpus["held_s"] == 20


def test_no_cell_runs_for_less_than_no_time() -> None:
    result = Result("o", "execute", "ok", True, started=at(0), ended=at(-HOUR))
    assert result.elapsed_s == 0
