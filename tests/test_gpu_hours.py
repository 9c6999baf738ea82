"""GPU hours held and used, as the record and `status` have them."""

from __future__ import annotations

from typing import Any

import pytest

from runner.cli.summary import gpu_json, made, what_next
from runner.config.experiment import Experiment
from runner.plan import gpu_idle_timeout_s
from runner.record import fold
from runner.record.run import RunState


def at(minute: float, type_: str, **fields: Any) -> dict[str, Any]:
    time = f"2026-11-27T{10 + int(minute) // 60:02}:{int(minute) % 60:02}:00.000Z"
    return {"time": time, "type": type_, **fields}


def run(*lines: dict[str, Any], gpu: Any = ("A100",), count: int = 2, **plan: Any) -> RunState:
    experiment = {"sandbox": {"gpu": gpu, "gpu_count": count}}
    return fold([at(0, "run", run_id="r", plan={"experiment": experiment, **plan}), *lines])


def minutes(state: RunState) -> tuple[float, float]:
    return state.gpus["held_s"] / 60, state.gpus["used_s"] / 60


USE = {"count": 2, "source": "nvidia-smi", "idle_s": 0.0}
END = at(40, "end", state="done", reason="", exit_status=0)


def test_gpus_are_held_from_the_first_attempt_to_the_end() -> None:
    state = run(at(10, "attempt", attempt=1), at(20, "state", state="starting"), END)
    assert minutes(state) == (60, 0), "two for half an hour, the preparing included"
    assert minutes(run(END)) == (0, 0), "no attempt had them"
    assert run(at(10, "attempt"), END, gpu=()).gpus["held_s"] == 0


def test_what_is_held_grows_with_every_line_of_whatever_type() -> None:
    lines = [at(10, "attempt"), at(15, "message", role="user"), at(20, "of a newer runner")]
    assert [minutes(run(*lines[:n]))[0] for n in (1, 2, 3)] == [0, 10, 20]


def test_a_pod_has_its_gpus_before_its_agent_speaks() -> None:
    since = {"since": "2026-11-27T10:05:00.000Z"}
    assert minutes(run(at(10, "attempt", **since)))[0] == 10
    again = [at(10, "attempt", **since), at(20, "state", state="running")]
    # The agent's process was started again in the same pod.
    assert minutes(run(*again, at(22, "attempt", **since)))[0] == 34


def test_nobody_holds_them_between_two_attempts() -> None:
    lost = [at(10, "attempt"), at(20, "state", state="running")]  # the node was lost
    other = at(35, "attempt", since="2026-11-27T10:30:00.000Z")
    assert minutes(run(*lost, other, at(38, "end")))[0] == 2 * (10 + 5 + 3)
    ended = at(22, "end", state="interrupted")
    again = [at(50, "attempt"), at(50, "state", state="preparing"), at(55, "score")]
    assert minutes(run(*lost, ended, *again))[0] == 2 * (12 + 5)


def test_who_writes_the_end_of_a_lost_run_the_next_day_holds_nothing() -> None:
    lost = [at(10, "attempt"), at(20, "state", state="running"), at(21, "gpus", used_s=1.0, **USE)]
    assert minutes(run(*lost, at(700, "end", state="cancelled")))[0] == 2 * (11 + 3)


def test_what_was_used_is_what_was_said_last() -> None:
    said = [at(20, "gpus", used_s=60.0, **USE), at(21, "gpus", used_s=120.0, **USE)]
    state = run(at(10, "attempt"), *said, at(30, "attempt"), END, gpu_hour_usd=3.0)
    assert minutes(state) == (42, 2), "from 10:10 to 10:21, and from 10:30 on"
    assert gpu_json(state) == {
        "gpus": 2,
        "gpu_hours": 0.7,
        "gpu_hours_used": pytest.approx(1 / 30),
        "gpu_use_source": "nvidia-smi",
        "gpu_usd": pytest.approx(2.1),
    }
    words = dict(made(state))["gpu"]
    assert words == "0.70 GPU hours held, 2.0 GPU minutes used (5 %, by nvidia-smi), $2.10"


def test_words_of_what_is_not_known() -> None:
    state = run(at(10, "attempt"), at(20, "state", state="running"))
    assert dict(made(state))["gpu"] == "0.33 GPU hours held"
    assert gpu_json(state)["gpu_usd"] is None
    none = run(END, gpu=())
    assert "gpu" not in dict(made(none))
    assert gpu_json(none)["gpu_usd"] == 0.0


def test_a_run_that_was_idle_goes_on_without_raising_anything() -> None:
    end = at(40, "end", state="bound", bound="gpu_idle", reason="", exit_status=4)
    state = run(at(10, "attempt"), end)
    words = list(what_next(state, "bound", lambda *words: " ".join(words)))
    assert words[0] == ("resume r", "goes on where it was")


@pytest.mark.parametrize(
    ("said", "of_lab", "holds"),
    [(None, None, None), (60, None, 60), (None, 90, 90), (60, 90, 60), (120, 90, 90)],
)
def test_the_least_of_what_is_said_holds(
    said: float | None, of_lab: float | None, holds: float | None
) -> None:
    def held(**sandbox: Any) -> float | None:
        data = {"name": "x", "task": "t", "sandbox": sandbox}
        return gpu_idle_timeout_s(Experiment.model_validate(data).sandbox, of_lab)

    assert held(gpu="A100", gpu_idle_timeout=said) == holds
    assert held() is None
