"""What is looked at after a fault sees what it is there to see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from invariants import RAN, NotebookReader, check_journal, counted

Lines = list[dict[str, Any]]


def journal(numbers: Sequence[int] = (0, 1, 2), state: str = "ok") -> Lines:
    """What a sandbox has of a cell that prints three lines."""
    about = {"op": "o", "cell": "c"}
    printed = [
        {"type": "message", **about, "msg_type": "stream", "content": {"text": f"a {n}\n"}}
        for n in numbers
    ]
    bodies: Lines = [
        {"type": "boot"},
        {"type": "queued", **about, "source": counted("a", 3)},
        *printed,
        {"type": "end", **about, "state": state},
    ]
    return [{"seq": seq, "boot": "b", "time": "t", **body} for seq, body in enumerate(bodies, 1)]


def test_a_journal_as_it_is_to_be(tmp_path: Path) -> None:
    (tmp_path / RAN).write_text("a\n")
    check_journal(journal(), tmp_path / RAN, received=journal())
    check_journal(journal([0, 1], "kernel_died"), tmp_path / RAN)


@pytest.mark.parametrize(
    ("lines", "ran", "words"),
    [
        (journal([0, 2], "kernel_died"), "a\n", "printed"),
        (journal([0, 1, 1, 2]), "a\n", "printed"),
        (journal([0, 1]), "a\n", "^a: "),
        (journal(), "a\na\n", "ran twice"),
        (journal(), "", "^a: "),
        (journal(), "a\nb\n", "nothing of it"),
        (journal()[:-1], "a\n", "never ended"),
        (journal(state="gone"), "a\n", "ended as"),
        ([*journal(), journal()[-1] | {"seq": 7}], "a\n", "ended twice"),
        (journal()[1:], "a\n", "lines"),
    ],
)
def test_what_is_wrong_is_seen(tmp_path: Path, lines: Lines, ran: str, words: str) -> None:
    (tmp_path / RAN).write_text(ran)
    with pytest.raises(AssertionError, match=words):
        check_journal(lines, tmp_path / RAN)


def test_a_line_that_had_been_received_is_missed(tmp_path: Path) -> None:
    (tmp_path / RAN).write_text("a\n")
    later = [line | {"time": "later"} for line in journal()]
    with pytest.raises(AssertionError, match="had received"):
        check_journal(later, tmp_path / RAN, received=journal()[:3])


@pytest.mark.parametrize("text", ['{"cells": [', "{}", ""])
def test_a_notebook_that_is_invalid_for_an_instant_is_seen(tmp_path: Path, text: str) -> None:
    notebook = tmp_path / "notebook.ipynb"
    reader = NotebookReader(notebook)
    reader.look()
    notebook.write_text(text)
    reader.look()
    assert len(reader.problems) == 1
    notebook.unlink()
    assert reader.versions == 0
