"""When the agent is told to wrap up, and when the run ends."""

from __future__ import annotations

import pytest

from runner.agent.bounds import Bound, Used, bounds, notice
from runner.config.experiment import AgentConfig


@pytest.mark.parametrize(
    ("bound", "near", "reached"),
    [
        (Bound("turns", 0, 1, 1), False, False),  # no turn is left in which to wrap up
        (Bound("turns", 0, 2, 1), False, False),
        (Bound("turns", 1, 2, 1), True, False),
        (Bound("turns", 196, 200, 1), False, False),
        (Bound("turns", 197, 200, 1), True, False),
        (Bound("turns", 200, 200, 1), True, True),
        (Bound("tokens", 84_999, 100_000), False, False),
        (Bound("tokens", 85_000, 100_000), True, False),
        (Bound("tokens", 40_000, 100_000, 20_000), True, False),  # three more turns, at most
        (Bound("tokens", 39_000, 100_000, 20_000), False, False),
        (Bound("tokens", 100_001, 100_000), True, True),
        (Bound("usd", 4.24, 5.0, 0.01), False, False),
        (Bound("usd", 4.26, 5.0, 0.01), True, False),
        (Bound("usd", 5.0, 5.0), True, True),
        (Bound("time", 3059, 3600), False, False),
        (Bound("time", 3060, 3600), True, False),
        (Bound("time", 3600, 3600), True, True),
    ],
)
def test_near_and_reached(bound, near, reached):
    assert (bound.near, bound.reached) == (near, reached)


def test_a_run_has_the_bounds_that_were_asked_for():
    used = Used(5, 900, 0.5, 60.0, turn_tokens=90, turn_cost_usd=0.1)
    assert [b.name for b in bounds(AgentConfig(), 3600, used)] == ["turns", "time"]
    config = AgentConfig(max_turns=10, max_tokens=1000, max_cost_usd=2.0)
    assert list(bounds(config, 3600, used)) == [
        Bound("turns", 5, 10, 1),
        Bound("tokens", 900, 1000, 90),
        Bound("usd", 0.5, 2.0, 0.1),
        Bound("time", 60.0, 3600),
    ]


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (Bound("turns", 197, 200), "197 of 200 replies"),
        (Bound("tokens", 850_000, 1_000_000), "850,000 of 1,000,000 tokens"),
        (Bound("usd", 4.3, 5.0), "$4.30 of $5.00"),
        (Bound("time", 3061.4, 3600), "3061 of 3600 seconds"),
    ],
)
def test_a_notice_says_how_much_is_used(bound, words):
    assert notice(bound).startswith(f"[runner] {words} are used")
