"""The fold from journal lines to a notebook, held against nbformat's own rules."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import pairwise
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import output_from_msg

from runner.notebook import STREAM_CAP, Notebook
from runner.notebook.cell import OUTPUTS_CAP
from runner.notebook.outputs import output_from
from runner.notebook.streams import StreamText

T0 = "2026-01-02T03:04:05.678Z"


class Journal:
    """Writes journal lines as the sandbox server does, and folds them."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.notebook = Notebook()

    def say(self, type_: str, **keys: Any) -> Any:
        line = {"seq": len(self.lines) + 1, "time": T0, "boot": "b", "type": type_, **keys}
        self.lines.append(line)
        return self.notebook.apply(line)

    def run(self, cell: str, source: str = "x") -> None:
        if cell not in self.notebook.cells:
            self.say("cell", op="i", action="insert", cell=cell, cell_type="code", source=source)
        self.say("queued", op=cell, cell=cell, source=source, hidden=False)
        self.say("start", op=cell, cell=cell)

    def message(self, cell: str | None, msg_type: str, **content: Any) -> Any:
        return self.say(
            "message", op=cell, cell=cell, msg_type=msg_type, content=content, metadata={}
        )

    def out(self, cell: str | None, text: str, name: str = "stdout") -> None:
        self.message(cell, "stream", name=name, text=text)

    def end(self, cell: str, state: str = "ok", reason: str = "") -> None:
        self.say("end", op=cell, cell=cell, state=state, reason=reason, execution_count=1)


def parsed(notebook: Notebook) -> Any:
    """The rendered notebook, valid and byte for byte what nbformat would write."""
    text = notebook.render()
    node = nbformat.reads(text, as_version=4)
    nbformat.validate(node)
    assert text == nbformat.writes(node) + "\n"
    return node


def texts(journal: Journal, cell: str = "a") -> list[str]:
    return [o.get("text") or o.get("evalue") for o in journal.notebook.cells[cell].outputs]


MESSAGES = [
    ("execute_result", {"data": {"text/plain": "1\n2"}, "metadata": {}, "execution_count": 3}),
    ("display_data", {"data": {"image/png": "aGk=", "text/html": "<b>\n"}, "metadata": {"a": 1}}),
    ("display_data", {"data": {"application/vnd.x+json": {"a": [1, None]}}, "metadata": {}}),
    ("error", {"ename": "E", "evalue": "v", "traceback": ["a", "b\nc"]}),
]


@pytest.mark.parametrize(("kind", "content"), MESSAGES)
def test_outputs_are_nbformats(kind: str, content: dict[str, Any]) -> None:
    expected = output_from_msg({"header": {"msg_type": kind}, "content": content})
    assert output_from(kind, content) == expected


def test_a_whole_notebook_is_what_nbformat_writes() -> None:
    journal = Journal()
    assert parsed(journal.notebook).cells == []
    journal.say("cell", op="m", action="insert", cell="m", cell_type="markdown", source="# T\n\nü")
    journal.run("a", "print('…')\n'\"outputs\": []'")
    journal.out("a", "one\ntwo \u2028 three\x0c\n")
    for kind, content in MESSAGES:
        journal.message("a", kind, **content)
    parsed(journal.notebook)
    journal.end("a", "error", 'says "outputs": []')
    journal.say("cell", op="f", action="insert", cell="f", cell_type="code", source="", index=0)
    node = parsed(journal.notebook)
    assert [cell.id for cell in node.cells] == journal.notebook.order() == ["f", "m", "a"]
    assert [o.output_type for o in node.cells[2].outputs] == ["stream", *(k for k, _ in MESSAGES)]
    assert node.cells[2].execution_count == 1
    journal.say("cell", op="r", action="replace", cell="m", source="new")
    journal.say("cell", op="d", action="delete", cell="f")
    assert parsed(journal.notebook).cells[0].source == "new"


def test_times_are_where_jupyterlab_writes_them() -> None:
    journal = Journal()
    journal.run("a")
    journal.message("a", "status", execution_state="busy")
    journal.message("a", "execute_input", code="x", execution_count=7)
    assert journal.notebook.cells["a"].execution_count == 7
    journal.message("a", "status", execution_state="idle")
    journal.end("a")
    node = parsed(journal.notebook)
    assert set(node.cells[0].metadata.execution) == {
        "iopub.status.busy",
        "iopub.execute_input",
        "iopub.status.idle",
        "shell.execute_reply",
        "shell.execute_reply.started",
    }
    assert node.cells[0].metadata.runner == {"state": "ok", "reason": ""}


def test_output_between_cells_belongs_to_the_cell_that_ran_last() -> None:
    journal = Journal()
    assert journal.message(None, "stream", name="stdout", text="nowhere") is None
    journal.run("a")
    journal.end("a")
    journal.say("queued", op="h", cell=None, source="load()", hidden=True)
    journal.say("start", op="h", cell=None)
    journal.say("message", op="h", cell=None, msg_type="stream", content={"text": "hidden"})
    journal.say("end", op="h", cell=None, state="ok", reason="", execution_count=None)
    journal.out(None, "thread\n")
    assert texts(journal) == ["thread\n"]
    assert journal.notebook.order() == ["a"]


def test_streams_coalesce_by_name() -> None:
    journal = Journal()
    journal.run("a")
    for text, name in [("a", "stdout"), ("b", "stdout"), ("c", "stderr"), ("d", "stdout")]:
        journal.out("a", text, name)
    assert texts(journal) == ["ab", "c", "d"]


def test_clear_output() -> None:
    journal = Journal()
    journal.run("a")
    journal.out("a", "old")
    journal.message("a", "clear_output", wait=True)
    assert texts(journal) == ["old"]
    journal.out("a", "new")
    assert texts(journal) == ["new"]
    journal.message("a", "clear_output", wait=False)
    assert texts(journal) == []
    journal.out("a", "again")
    journal.end("a")
    journal.run("a")
    assert texts(journal) == []


def test_a_display_is_updated_in_every_cell() -> None:
    journal, shown = Journal(), {"transient": {"display_id": "d"}, "metadata": {}}
    for cell in "ab":
        journal.run(cell)
        journal.message(cell, "display_data", data={"text/plain": "0"}, **shown)
        journal.end(cell)
    journal.notebook.render()
    journal.message("b", "update_display_data", data={"text/plain": "1"}, **shown)
    node = parsed(journal.notebook)
    assert [cell.outputs[0].data["text/plain"] for cell in node.cells] == ["1", "1"]
    journal.message("b", "update_display_data", data={"x": 1}, transient={"display_id": "?"})
    for number in range(100):
        journal.message("b", "clear_output", wait=False)
        journal.message("b", "display_data", data={}, transient={"display_id": str(number)})
    assert len(journal.notebook._displays) == 2, "ids that are shown no more are let go"


@pytest.mark.parametrize(
    ("state", "ename"),
    [
        ("interrupted", "Interrupted"),
        ("kernel_died", "KernelDied"),
        ("restarted", "KernelRestarted"),
        ("lost", "SandboxLost"),
    ],
)
def test_an_end_without_a_word_from_the_kernel_is_shown(state: str, ename: str) -> None:
    journal = Journal()
    journal.run("a")
    journal.out("a", "before\n")
    journal.end("a", state, "out of memory")
    assert journal.notebook.cells["a"].state == state
    assert parsed(journal.notebook).cells[0].outputs[1] == {
        "output_type": "error",
        "ename": ename,
        "evalue": "out of memory",
        "traceback": [f"{ename}: out of memory"],
    }


def test_the_kernels_own_error_is_enough() -> None:
    journal = Journal()
    journal.run("a")
    journal.message("a", "error", ename="KeyboardInterrupt", evalue="", traceback=[])
    journal.end("a", "interrupted")
    assert len(journal.notebook.cells["a"].outputs) == 1


def test_a_queued_rerun_that_is_dropped_does_not_end_the_one_that_runs() -> None:
    journal = Journal()
    journal.run("a")
    journal.say("queued", op="2", cell="a", source="x", hidden=False)
    journal.say("end", op="2", cell="a", state="interrupted", reason="", execution_count=None)
    cell = journal.notebook.cells["a"]
    assert (cell.state, cell.outputs) == ("running", [])
    journal.end("a")
    assert cell.state == "ok"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (["10%\r", "20%\r100%\n"], "100%\n"),
        (["abc\rX"], "Xbc"),
        (["abc", "\r\n", "d"], "abc\nd"),
        (["abc\r", "\nd"], "abc\nd"),
        (["abc\b\bX\n"], "aXc\n"),
        (["\b\ba"], "a"),
        (["line\nabc\b", "\b", "\r", "Z"], "line\nZbc"),
    ],
)
def test_the_cursor_moves_as_on_a_terminal(written: list[str], shown: str) -> None:
    stream = StreamText()
    for text in written:
        stream.write(text, 1)
    assert stream.text() == shown


@given(st.text("ab\n\r\b", max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_a_stream_does_not_depend_on_how_it_was_cut(text: str, cuts: list[int]) -> None:
    whole, cut_up = StreamText(), StreamText()
    whole.write(text, 1)
    places = [0, *sorted(cuts), len(text)]
    for start, end in pairwise(places):
        cut_up.write(text[start:end], 1)
    assert cut_up.text() == whole.text()


@pytest.mark.parametrize("line", ["x" * 99 + "\n", "x" * 100])
@pytest.mark.parametrize("at_once", [1, 50_000])
def test_a_long_stream_keeps_its_ends_and_says_where_the_rest_is(line: str, at_once: int) -> None:
    journal, repeat, half = Journal(), 50_000, STREAM_CAP // 2
    journal.run("a")
    for _ in range(repeat // at_once):
        journal.out("a", line * at_once)
    journal.out("a", "the end\n")
    whole = line * repeat + "the end\n"
    [text] = texts(journal)
    assert len(journal.notebook.cells["a"].shown[0].stream or "") == STREAM_CAP
    assert text.startswith(whole[:half])
    assert text.endswith("\n" + whole[-half:])
    note = text[half:-half].strip()
    left_out = len(whole) - STREAM_CAP
    first, last = [int(word) for word in note.rstrip(" …").split("lines ")[1].split(" to ")]
    assert note.startswith(f"… {left_out} characters left out; ")
    if at_once == 1:  # exact where lines are short, and never too few
        slack = 0 if line.endswith("\n") else half // 100
        assert 4 + half // 100 - slack <= first <= 4 + half // 100
        last_left_out = len(journal.lines) - half // 100
        assert last_left_out <= last <= last_left_out + slack
    else:
        assert first == last == 4
    parsed(journal.notebook)


def test_memory_stays_bounded() -> None:
    notebook = Notebook()
    notebook.apply({"type": "cell", "action": "insert", "cell": "a", "source": ""})
    notebook.apply({"type": "start", "cell": "a", "op": "1"})
    tracemalloc.start()
    for seq in range(400):
        text = "y" * 500_000 if seq % 2 else "\n" * 1000
        content = {"name": "stdout" if seq < 200 or seq % 2 else "stderr", "text": text}
        line = {"type": "message", "cell": "a", "msg_type": "stream", "content": content}
        notebook.apply({"seq": seq, **line})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000


def test_many_outputs_keep_the_first_and_the_last() -> None:
    journal, count = Journal(), OUTPUTS_CAP + 500
    journal.run("a")
    for number in range(count):
        journal.message("a", "display_data", data={"text/plain": str(number)}, metadata={})
    outputs = parsed(journal.notebook).cells[0].outputs
    assert len(outputs) == OUTPUTS_CAP + 1
    assert outputs[0].data["text/plain"] == "0"
    assert outputs[-1].data["text/plain"] == str(count - 1)
    assert outputs[OUTPUTS_CAP // 2].text == (
        "… 500 outputs left out; all of them are in journal.jsonl, lines 504 to 1003 …\n"
    )
    assert json.loads(journal.notebook.render()) == json.loads(journal.notebook.render())
    assert journal.notebook.cells["a"].outputs == outputs


def test_large_outputs_keep_the_first_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.notebook.cell.SIZE_CAP", 10_000)
    journal = Journal()
    journal.run("a")
    for number in range(20):
        data = {"text/plain": f"{number} {'x' * 1000}"}
        journal.message("a", "display_data", data=data, metadata={})
        parsed(journal.notebook)
    outputs = journal.notebook.cells["a"].outputs
    shown = [o["data"]["text/plain"].split()[0] if "data" in o else o["text"] for o in outputs]
    assert shown[:2] == ["0", "1"]
    assert shown[-1] == "19"
    assert sum("outputs left out" in text for text in shown) == 1
    assert 8 <= len(shown) <= 11
    journal.message("a", "clear_output", wait=False)
    journal.out("a", "fresh")
    assert texts(journal) == ["fresh"]


def test_what_cannot_be_written_is_mended() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    journal = Journal()
    journal.run("a", "'\ud800'")
    journal.out("a", "\udfff\n")
    journal.message(
        "a",
        "display_data",
        data={"text/plain": 5, "application/json": [deep, float("nan")], "image/png": None},
        metadata=[],
    )
    journal.message("a", "execute_result", data=[], metadata={}, execution_count="x")
    journal.message("a", "error", ename=1, evalue=None, traceback="no list")
    node = parsed(journal.notebook)
    assert node.cells[0].source == "'\ufffd'"
    assert node.cells[0].outputs[0].text == "\ufffd\n"
    assert node.cells[0].outputs[1].data["text/plain"] == "5"


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"type": "from a newer version", "cell": "a"},
        {"type": "cell", "action": "fold", "cell": "a"},
        {"type": "cell", "action": "insert", "cell": "a", "source": "again"},
        {"type": "cell", "action": "insert", "cell": "not an id!", "source": ""},
        {"type": "cell", "action": "delete", "cell": "unknown"},
        {"type": "start", "op": "1", "cell": "unknown"},
        {"type": "message", "cell": "unknown", "msg_type": "stream", "content": {"text": "x"}},
        {"type": "message", "cell": "a", "msg_type": "comm_msg", "content": {}},
        {"type": "message", "cell": "a", "msg_type": "stream", "content": None},
        {"type": "shell", "op": "s", "command": "ls"},
    ],
)
def test_lines_it_does_not_know_change_nothing(line: dict[str, Any]) -> None:
    journal = Journal()
    journal.run("a")
    before, version = journal.notebook.render(), journal.notebook.version
    assert journal.notebook.apply(line) is None
    assert (journal.notebook.render(), journal.notebook.version) == (before, version)


CELLS = st.sampled_from(["a", "b", "c"])
LINES = st.one_of(
    st.builds(
        lambda cell, action, index: {
            "type": "cell",
            "op": "e",
            "action": action,
            "cell": cell,
            "cell_type": "markdown" if cell == "c" else "code",
            "source": f"{action}\n{index}",
            "index": index,
        },
        CELLS,
        st.sampled_from(["insert", "insert", "replace", "delete"]),
        st.none() | st.integers(0, 3),
    ),
    st.builds(
        lambda cell, kind, state: {"type": kind, "op": cell, "cell": cell, "state": state},
        CELLS,
        st.sampled_from(["queued", "start", "start", "end"]),
        st.sampled_from(["ok", "error", "interrupted", "lost"]),
    ),
    st.builds(
        lambda cell, name, text: {
            "type": "message",
            "op": cell,
            "cell": cell,
            "msg_type": "stream",
            "content": {"name": name, "text": text},
        },
        CELLS | st.none(),
        st.sampled_from(["stdout", "stderr"]),
        st.text("ab\n\r\bü\ud800\u2028", max_size=8),
    ),
    st.builds(
        lambda cell, kind, text, wait: {
            "type": "message",
            "op": cell,
            "cell": cell,
            "msg_type": kind,
            "content": {
                "data": {"text/plain": text},
                "metadata": {},
                "transient": {"display_id": "d"},
                "wait": wait,
                "execution_count": 2,
                "execution_state": "busy",
            },
        },
        CELLS | st.none(),
        st.sampled_from(
            [
                "display_data",
                "update_display_data",
                "execute_result",
                "clear_output",
                "error",
                "status",
                "execute_input",
            ]
        ),
        st.text(max_size=5),
        st.booleans(),
    ),
)


def test_an_error_is_no_display_whatever_a_kernel_says() -> None:
    journal, shown = Journal(), {"data": {"text/plain": "x"}, "transient": {"display_id": "d"}}
    journal.run("a")
    journal.message("a", "error", ename="E", **shown)
    journal.message("a", "update_display_data", **shown)
    [output] = parsed(journal.notebook).cells[0].outputs
    assert output["ename"] == "E"


@settings(deadline=None)
@given(st.lists(LINES, max_size=30), st.sets(st.integers(0, 30)))
def test_rendering_as_it_grows_and_at_once_give_the_same_bytes(
    lines: list[dict[str, Any]], renders: set[int]
) -> None:
    live, late = Notebook(), Notebook()
    for seq, line in enumerate(lines, 1):
        line = {"seq": seq, "time": T0, **line}
        live.apply(line)
        late.apply(json.loads(json.dumps(line)))
        if seq in renders:
            parsed(live)
    assert live.render() == late.render()
    assert b"".join(live.pieces()).decode() == live.render()


def test_a_hundred_thousand_lines_do_not_take_long() -> None:
    notebook = Notebook()
    notebook.apply({"type": "cell", "action": "insert", "cell": "a", "source": ""})
    notebook.apply({"type": "start", "cell": "a", "op": "1"})
    start = time.perf_counter()
    for seq in range(100_000):
        content = {"name": "stdout", "text": f"line {seq}\n"}
        line = {"type": "message", "cell": "a", "msg_type": "stream", "content": content}
        notebook.apply({"seq": seq, **line})
    assert time.perf_counter() - start < 5, "about 0.3 s on an idle machine"
