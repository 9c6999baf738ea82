from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.names import NAME_LENGTH, RUN_ID_LENGTH, is_name, is_run_id, new_run_id, slug

WHEN = datetime(2026, 11, 23, 9, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "valid", "offered"),
    [
        ("checkpoint-diffing", True, "checkpoint-diffing"),
        ("a", True, "a"),
        ("7b", True, "7b"),
        ("a" * 40, True, "a" * 40),
        ("a" * 41, False, "a" * 40),
        ("x" * 300, False, "x" * 40),
        ("", False, "experiment"),
        ("..", False, "experiment"),
        ("../../etc", False, "etc"),
        ("a/b", False, "a-b"),
        ("Checkpoint Diffing", False, "checkpoint-diffing"),
        ("-a-", False, "a"),
        ("a_b.c", False, "a-b-c"),
        ("Übung 1", False, "ubung-1"),
        ("実験", False, "experiment"),
        ("a\n", False, "a"),
        ("a" * 39 + "-b", False, "a" * 39),
    ],
)
def test_names(text: str, valid: bool, offered: str) -> None:
    assert is_name(text) is valid
    assert slug(text) == offered


@given(st.text(max_size=400))
def test_a_slug_is_always_a_name_and_its_own_slug(text: str) -> None:
    assert is_name(slug(text))
    assert slug(slug(text)) == slug(text)


@given(st.text(max_size=400), st.datetimes(timezones=st.just(UTC)), st.integers())
def test_run_ids_are_labels_with_room_for_suffixes(text: str, when: datetime, seed: int) -> None:
    run_id = new_run_id(slug(text), when, random.Random(seed))
    assert is_run_id(run_id)
    assert len(run_id) <= RUN_ID_LENGTH


def test_a_run_id_says_what_and_when() -> None:
    run_id = new_run_id("checkpoint-diffing", WHEN, random.Random(1))
    assert run_id.startswith("checkpoint-diffing-261123-0907-")
    assert new_run_id("a", WHEN) != new_run_id("a", WHEN)
    berlin = WHEN.astimezone(timezone(timedelta(hours=1)))
    assert new_run_id("a", berlin, random.Random(1)) == new_run_id("a", WHEN, random.Random(1))


def test_run_ids_of_a_name_sort_by_time() -> None:
    times = [WHEN + timedelta(days=7 * n, minutes=n) for n in range(60)]
    for name in ("a", "a" * NAME_LENGTH):
        ids = [new_run_id(name, when) for when in times]
        assert ids == sorted(ids)
