"""What differs between two runs: the steps of a record, and outputs."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan, make_record
from command_line import CommandLine
from PIL import Image, PngImagePlugin

from runner.compare.outputs import Verdict, difference, text_difference
from runner.compare.runs import Likeness, likeness
from runner.compare.steps import CELL, FILE, HIDDEN, RESTART, SHELL, Step, steps

SAME, CLOSE, DIFFERS = Verdict


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: Any) -> dict[str, Any]:
    kinds = {kind.replace("__", "/"): value for kind, value in data.items()}
    return {"output_type": "display_data", "data": kinds, "metadata": {}}


def raised(name: str, value: str, traceback: str = "") -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": [traceback]}


def png(colour: int, note: str = "", size: int = 2) -> str:
    file, told = io.BytesIO(), PngImagePlugin.PngInfo()
    told.add_text("Software", note)
    Image.new("L", (size, size), colour).save(file, "PNG", pnginfo=told)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ("a", "a", SAME, ""),
        ("_name_or_path=/cache/hidden/a-1/0", "_name_or_path=/cache/hidden/b-2/0", SAME, ""),
        ("<f at 0x7f1234567890>", "<f at 0x7fabcdef0123>", SAME, ""),
        ("loss 0.12345678", "loss 0.12345679", CLOSE, "within the tolerance"),
        ("loss 0.12", "loss 0.13", DIFFERS, "'loss 0.12' → 'loss 0.13'"),
        ("x nan -1e-9", "x nan -1.0000000001e-9", CLOSE, ""),
        ("1 2", "1 2 3", DIFFERS, ""),
        ("1.0\ntwo", "1.00\nzwei", DIFFERS, "'two' → 'zwei'"),
        ("same\n", "same", DIFFERS, "'same\\n' → 'same'"),
        ("one\ntwo\nthree", "one\n2\nthree", DIFFERS, "'two' → '2'"),
        ("", "new", DIFFERS, "'' → 'new'"),
        ("0", "1e-12", DIFFERS, ""),
    ],
)
def test_texts(before: str, after: str, verdict: Verdict, words: str) -> None:
    found = text_difference(before, after)
    assert (found.verdict, words in found.words) == (verdict, True), found


def test_the_tolerance_is_the_caller_s() -> None:
    assert text_difference("0.100", "0.104", 0.05).verdict is CLOSE
    assert text_difference("0.100", "0.104", 0.01).verdict is DIFFERS
    assert text_difference("1.0", "1.00", 0).verdict is CLOSE


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ([], [], SAME, ""),
        ([printed("a"), printed("!", "stderr"), printed("b")], [printed("ab"), printed("!", "stderr")], SAME, ""),
        ([printed("a"), printed("w", "stderr")], [printed("w", "stderr"), printed("a")], SAME, ""),
        ([printed("a")], [printed("a", "stderr")], DIFFERS, "missing: stdout 'a'"),
        ([printed("… journal.jsonl, lines 2 to 9")], [printed("… journal.jsonl, lines 3 to 7")], SAME, ""),
        ([shown(image__png=png(0))], [shown(image__png="ä")], DIFFERS, "image/png differs"),
        ([printed("a")], [], DIFFERS, "missing: stdout 'a'"),
        ([], [raised("E", "x")], DIFFERS, "more: E: x"),
        ([raised("E", "x", "here")], [raised("E", "x", "there")], SAME, ""),
        ([raised("E", "x")], [raised("E", "y")], DIFFERS, "'E: x' → 'E: y'"),
        ([printed("a")], [shown(text__plain="a")], DIFFERS, "missing: stdout 'a'"),
        ([shown(text__plain=["a", "1.0"])], [shown(text__plain="a1.0")], SAME, ""),
        ([shown(text__plain="1", image__png="x")], [shown(text__plain="1")], DIFFERS, "image/png"),
        ([shown(application__json={"a": 1})], [shown(application__json={"a": 2})], DIFFERS, "application/json differs"),
        ([shown(image__png=png(0))], [shown(image__png=png(0, "other"))], SAME, ""),
        ([shown(image__png=png(0))], [shown(image__png=png(9))], DIFFERS, "pixels differ"),
        ([shown(image__png=png(0))], [shown(image__png=png(0, size=3))], DIFFERS, "(2, 2) → (3, 3) pixels"),
        ([shown(image__png=png(0))], [shown(image__png="bm90IG9uZQ==")], DIFFERS, "image/png differs"),
        ([printed("1.0"), shown(text__plain="a")], [printed("1.00"), shown(text__plain="b")], DIFFERS, "'a' → 'b'"),
    ],
)  # fmt: skip
def test_outputs(before: Any, after: Any, verdict: Verdict, words: str) -> None:
    found = difference(before, after)
    assert (found.verdict, words in found.words) == (verdict, True), found


def line(seq: int, kind: str, op: str | None = None, **more: Any) -> dict[str, Any]:
    time = f"2026-11-28T07:00:{seq:02}.000Z"
    return {"seq": seq, "time": time, "type": kind, "op": op, **more}


def test_the_steps_of_a_record() -> None:
    journal = [
        line(0, "boot"),
        line(1, "cell", "a", action="insert", cell="c1"),
        line(2, "queued", "a", cell="c1", source="1", hidden=False),
        line(3, "queued", "b", cell=None, source="2", hidden=True),
        line(4, "queued", "never", cell="c2", source="3", hidden=False),
        line(5, "start", "a", cell="c1"),
        line(9, "end", "a", cell="c1", state="ok"),
        line(10, "start", "b", cell=None),
        line(11, "end", "b", cell=None, state="kernel_died"),
        line(12, "end", "never", cell="c2", state="restarted"),
        line(13, "start", "r"),
        line(14, "kernel", event="restarted", reason="asked for"),
        line(15, "end", "r", state="ok"),
        line(16, "shell", "s", command="echo hi"),
        line(17, "shell_output", "s", stream="stdout", text="hi\n"),
        line(18, "end", "s", state="ok", exit=0),
        line(19, "file", "f", path="in.txt", bytes=1, sha256="1"),
        line(20, "file", "g", path="up.bin", bytes=1, sha256="0"),
        line(21, "boot"),
        line(22, "shell", "t", command="sleep 9"),
    ]
    use = {"type": "tool_use", "id": "u", "name": "write_file", "input": {"content": "x"}}
    transcript = [
        line(1, "message", content=[{"type": "text", "text": "I write."}, use]),
        line(2, "tool_result", "f", tool="write_file", tool_use_id="u"),
    ]
    assert steps(journal, transcript) == [
        Step(CELL, "1", "c1", state="ok", took_s=4.0),
        Step(HIDDEN, "2", state="kernel_died", took_s=1.0),
        Step(RESTART, state="ok"),
        Step(SHELL, "echo hi", state="ok", took_s=2.0, printed={"stdout": "hi\n"}),
        Step(FILE, "x", path="in.txt", sha256="1", state="ok"),
        Step(FILE, None, path="up.bin", sha256="0", state="ok"),
        Step(RESTART, state="ok"),
        Step(SHELL, "sleep 9"),
    ]


# -- runs beside each other ----------------------------------------------------------------


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": [source], "outputs": list(outputs)}


def test_notebooks_are_like_each_other_where_their_sources_are() -> None:
    first = [
        code("a", printed("1")),
        {"cell_type": "markdown", "source": "m"},
        code("b"),
        code("c"),
    ]
    other = [code("a", printed("2")), code("new"), code("b"), code("c", printed("c"))]
    assert likeness(first, other) == Likeness(cells=4, same_source=3, other_outputs=2)
    assert likeness(first, first) == Likeness(cells=3, same_source=3, other_outputs=0)
    assert likeness(first, []) == Likeness(cells=0, same_source=0, other_outputs=0)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """The ids of two runs that end differently."""
    ids = []
    for turns in (5, 50):
        plan = make_plan(f"turns-261128-0700-{turns:04}", agent={"max_turns": turns})
        record = make_record(tmp_path / "runs", plan)
        made = [record.add_output("a.txt", b"same"), record.add_output("b.txt", b"x" * turns)]
        record.say("outputs", files=made)
        record.say("score", score={"score": turns / 100, "found": ["x"]})
        journal = record.journal_mark()
        state = "bound" if turns == 5 else "done"
        record.say("end", state=state, reason="", bound=None, exit_status=0, journal=journal)
        record.close()
        ids.append(record.path.name)
    return ids


def test_runs_are_put_side_by_side(two: list[str], tmp_path: Path) -> None:
    line = CommandLine(tmp_path, RUNNER_STATE_DIR=str(tmp_path / "state"))
    told = line("compare", *two)
    assert told.status == 0, told
    found = {text.split()[0]: text.split()[1:] for text in told.out.splitlines()[1:]}
    assert found["agent.max_turns"] == ["5", "50"]
    assert found["state"] == ["bound", "done"]
    assert re.search(r"^  score +0.05 +0.5$", told.out, re.MULTILINE)
    assert found["b.txt"][:2] == ["5", "B"]
    assert "a.txt" not in told.out
    told = line("compare", *two, "--all", "--json")
    rows = {(row["section"], row["key"]): row for row in told.data["rows"]}
    assert told.data["runs"] == two
    assert rows["score", "score"] == {
        "section": "score",
        "key": "score",
        "values": [0.05, 0.5],
        "differs": True,
    }
    assert rows["outputs", "a.txt"]["differs"] is False
    assert told.data["notebooks"] == [{"cells": 0, "same_source": 0, "other_outputs": 0}]


def test_one_run_alone_is_not_compared(two: list[str], tmp_path: Path) -> None:
    line = CommandLine(tmp_path, RUNNER_STATE_DIR=str(tmp_path / "state"))
    told = line("compare", two[0], two[0])
    assert (told.status, "expected two runs at least" in told.err) == (2, True)
    told = line("compare", two[0], "nothing-261123-0907-x7k2")
    assert (told.status, "holds no run" in told.words) == (2, True), told
    told = line("replay", two[0])
    assert (told.status, "nothing was carried out in it" in told.words) == (2, True), told
    told = line("replay", two[0], "--tolerance", "2")
    assert (told.status, "expected a number from 0 up to 1" in told.words) == (2, True)
