"""A follower goes on looking when nobody answers for a while."""

from __future__ import annotations

import pytest

from runner.backends import patience
from runner.backends.patience import Patience
from runner.errors import InfrastructureError, RunNotFound


def fails() -> str:
    raise InfrastructureError("no cluster answers")


def test_the_first_failure_and_the_end_of_it_are_told() -> None:
    said: list[str] = []
    follower = Patience(said.append)
    assert follower.look(lambda: "running") == "running"
    assert said == []
    for _ in range(3):
        assert follower.look(fails) is None
    assert [words.partition("\n")[0] for words in said] == ["no cluster answers"]
    assert "goes on" in said[0]
    assert follower.look(lambda: "running") == "running"
    assert said[1:] == ["it answers again"]


def test_it_is_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AWAY_S", -1.0)
    follower = Patience(lambda _: None)
    assert follower.look(fails) is None
    with pytest.raises(InfrastructureError, match="no cluster answers"):
        follower.look(fails)


def test_what_is_not_there_is_an_error_at_once() -> None:
    def gone() -> str:
        raise RunNotFound("no such run")

    with pytest.raises(RunNotFound):
        Patience(lambda _: None).look(gone)
