"""Cells on a real sandbox server: states, queue, interrupts, edits, long polls, the journal."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import nbformat
import pytest
from sandbox_process import SandboxProcess, sandbox, until

from runner.errors import OperationConflict
from runner.session import LostOperation, Session


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("cells")) as made:
        yield made


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


def lines_of(session: Session, op: str) -> list[dict[str, Any]]:
    return list(session.stream(op, timeout_s=60))


def streamed(session: Session, op: str) -> str:
    """All that an operation printed, from the journal."""
    lines = [line for line in lines_of(session, op) if line.get("msg_type") == "stream"]
    return "".join(line["content"]["text"] for line in lines)


def begun(session: Session, op: str, text: str) -> None:
    until(lambda: text in session.wait(op, timeout_s=0).text, what=f"{text!r} of {op}")


def test_ok(session: Session) -> None:
    result = session.run("print('out'); 1 + 1")
    assert (result.state, result.final, result.text) == ("ok", True, "out\n2")
    assert result.cell in json.dumps(json.loads(session.notebook()))


def test_error(session: Session) -> None:
    result = session.run("1 / 0")
    assert (result.state, result.reason) == ("error", "ZeroDivisionError")
    assert result.outputs[-1]["ename"] == "ZeroDivisionError"
    assert session.run("'the kernel goes on'").state == "ok"


@pytest.mark.parametrize(
    "code",
    [
        "import time; print(1, flush=True); time.sleep(60)",
        "import asyncio; print(1, flush=True); await asyncio.sleep(60)",
        "print(1, flush=True)\nwhile True: pass",
        "import subprocess; print(1, flush=True)\nsubprocess.run(['sleep', '60'])",
    ],
)
def test_timeout_means_still_running_and_interrupt_is_its_own_call(
    session: Session, code: str
) -> None:
    result = session.run(code, timeout_s=0.1)
    assert (result.state, result.final) in {("running", False), ("queued", False)}
    begun(session, result.op, "1")
    assert session.interrupt(result.op).state == "interrupted"
    assert session.interrupt(result.op).state == "interrupted", "once ended, nothing happens"
    assert session.run("2").text == "2"


def test_interrupts_that_come_at_once_are_not_lost(session: Session) -> None:
    for _ in range(15):
        result = session.run("import time\ntime.sleep(60)", timeout_s=0)
        assert session.interrupt(result.op).state == "interrupted"
    assert session.run("3").text == "3"


def test_queued_cells_run_in_order_and_can_be_interrupted(session: Session) -> None:
    first = session.run("import time; print('go', flush=True); time.sleep(60)", timeout_s=0)
    second = session.run("order = ['second']", timeout_s=0)
    third = session.run("order.append('third')", timeout_s=0)
    fourth = session.run("order.append('fourth'); order", timeout_s=0)
    begun(session, first.op, "go")
    assert session.info()["queued"] == 3
    assert session.interrupt(third.op).state == "interrupted"
    assert third.started is None
    assert session.interrupt(first.op).state == "interrupted"
    assert session.wait(fourth.op).text == "['second', 'fourth']"
    assert session.wait(third.op).outputs[-1]["ename"] == "Interrupted"
    assert session.wait(second.op).state == "ok"


def test_restart_ends_what_runs_and_what_waits(session: Session) -> None:
    session.run("kept = 1")
    running = session.run("import time; print('go', flush=True); time.sleep(60)", timeout_s=0)
    waiting = session.run("kept", timeout_s=0)
    begun(session, running.op, "go")
    restarted = session.restart()
    assert (restarted.state, restarted.final) == ("ok", True)
    assert [session.wait(op.op).state for op in (running, waiting)] == ["restarted"] * 2
    assert session.wait(running.op).outputs[-1]["ename"] == "KernelRestarted"
    assert session.run("kept").reason == "NameError"


def test_cells_sent_while_the_kernel_restarts_run_afterwards(session: Session) -> None:
    ops = [uuid.uuid4().hex for _ in range(2)]
    restart = session.submit({"kind": "restart"}, timeout_s=0)
    again = session.submit({"kind": "restart"}, timeout_s=0)
    results = [session.run(f"{n}", op=op, timeout_s=0) for n, op in enumerate(ops)]
    assert session.wait(restart.op).state == session.wait(again.op).state == "ok"
    last = session.run("'after'")
    assert last.text == "'after'"
    # The second restart may have come before they ran, or after.
    assert {session.wait(result.op).state for result in results} <= {"ok", "restarted"}


def test_the_same_operation_again_is_done_once(session: Session, box: SandboxProcess) -> None:
    session.run("count = 0")
    op = uuid.uuid4().hex
    results = []
    with box.session() as other:
        threads = [
            threading.Thread(target=lambda s=s: results.append(s.run("count += 1; count", op=op)))
            for s in (session, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.text for result in results] == ["1", "1"]
    assert session.run("count += 1; count", op=op).text == "1"
    assert session.run("count").text == "1"
    with pytest.raises(OperationConflict, match=op):
        session.run("count += 2", op=op)
    assert session.run("count").text == "1"


def test_another_boot_is_refused_and_nothing_runs(session: Session) -> None:
    session.run("ran = False")
    cell = session.run("0").cell or ""
    for body in (
        {"kind": "execute", "source": "ran = True"},
        {"kind": "shell", "command": "touch ran"},
        {"kind": "replace_cell", "cell": cell, "source": "1"},
        {"kind": "delete_cell", "cell": cell},
        {"kind": "restart"},
    ):
        with pytest.raises(LostOperation) as caught:
            session.submit(body, boot="another")
        assert (caught.value.boot, caught.value.known) == (session.boot, None)
    assert session.run("ran").text == "False"
    assert "ran" not in [entry["path"] for entry in session.tree()]


def test_edits(session: Session) -> None:
    cell = session.run("x = 1\ny = 1\nx + y").cell or ""
    twice = session.edit_cell(cell, "= 1", "= 2")
    assert (twice.state, twice.reason) == (
        "error",
        f"the old text occurs 2 times in cell {cell}; it must occur once",
    )
    assert "0 times" in session.edit_cell(cell, "z", "zz").reason
    op = uuid.uuid4().hex
    edited = session.edit_cell(cell, "y = 1", "y = 5", op=op)
    assert edited.diff.splitlines()[2:] == [
        "@@ -1,3 +1,3 @@",
        " x = 1",
        "-y = 1",
        "+y = 5",
        " x + y",
    ]
    assert session.edit_cell(cell, "y = 1", "y = 5", op=op) == edited
    assert session.run_cell(cell).text == "6"
    assert "+9" in session.replace_cell(cell, "9").diff
    assert session.run_cell(cell).text == "9"
    text = session.add_markdown("# Title").cell or ""
    assert session.run_cell(text).reason == f"cell {text} holds no code"
    assert session.delete_cell(cell).state == "ok"
    for refused in (session.run_cell(cell), session.edit_cell(cell, "a", "b")):
        assert (refused.state, refused.reason) == ("error", f"there is no cell {cell}")


def test_a_cell_that_runs_cannot_be_edited(session: Session) -> None:
    running = session.run("import time; print(1, flush=True); time.sleep(60)", timeout_s=0)
    begun(session, running.op, "1")
    for refused in (
        session.edit_cell(running.cell or "", "60", "61"),
        session.delete_cell(running.cell or ""),
    ):
        assert "is running; interrupt it" in refused.reason
    session.interrupt(running.op)


def test_a_cell_that_waits_again_has_no_outputs_yet(session: Session) -> None:
    cell = session.run("print('first')").cell or ""
    blocker = session.run("import time; print(1, flush=True); time.sleep(60)", timeout_s=0)
    again = session.submit({"kind": "execute", "cell": cell}, timeout_s=0)
    assert (again.state, again.outputs) == ("queued", [])
    session.interrupt(blocker.op)
    assert session.wait(again.op).text == "first\n"


def test_hidden_executions_leave_no_cell(session: Session) -> None:
    before = json.loads(session.notebook())
    result = session.run("hidden = 'a hidden thing'; print(hidden)", hidden=True)
    assert (result.state, result.cell, result.text) == ("ok", None, "a hidden thing\n")
    assert json.loads(session.notebook()) == before
    assert "a hidden thing\n" in streamed(session, result.op)
    assert session.run("hidden").text == "'a hidden thing'"


@pytest.mark.parametrize("code", ["input('name? ')", "import getpass; getpass.getpass()"])
def test_input_fails_at_once_with_words(session: Session, code: str) -> None:
    result = session.run(code, timeout_s=20)
    assert (result.state, result.reason) == ("error", "StdinNotImplementedError")
    assert "does not support input requests" in result.text


def test_updates_of_a_display_reach_it_in_another_cell(session: Session) -> None:
    shown = session.run("handle = display('before', display_id=True)")
    session.run("handle.update('after')")
    cells = {cell["id"]: cell for cell in json.loads(session.notebook())["cells"]}
    assert cells[shown.cell]["outputs"][0]["data"]["text/plain"] == ["'after'"]
    assert session.wait(shown.op).text == "'before'", "the operation's own result is what it was"


def test_a_thread_that_prints_between_cells(session: Session) -> None:
    started = session.run(
        "import threading\nevent = threading.Event()\n"
        "def late():\n    event.wait()\n    print('late words', flush=True)\n"
        "threading.Thread(target=late).start()"
    )
    after = session.info()["journal"]["lines"]
    session.run("event.set()", hidden=True)

    def found() -> bool:
        return any(
            line.get("msg_type") == "stream" and "late words" in line["content"]["text"]
            for line in session.journal(after, wait_s=1)
        )

    until(found, what="the thread's words in the journal")
    cells = {cell["id"]: cell for cell in json.loads(session.notebook())["cells"]}
    assert "late words" in json.dumps(cells[started.cell])


def test_long_poll_of_an_operation(session: Session, box: SandboxProcess) -> None:
    op = session.run(
        "import time\nfor n in range(2):\n    print(n, flush=True)\n    time.sleep(0.5)",
        timeout_s=0,
    ).op
    lines, after = [], 0
    with httpx.Client(
        base_url=box.url + "/runner/v1", headers={"Authorization": f"token {box.token}"}
    ) as http:
        while True:
            params = {"after": after, "wait": 20}
            answer = http.get(f"/operations/{op}", params=params, timeout=30).json()
            assert "outputs" not in answer
            assert [line["seq"] > after for line in answer["lines"]]
            lines += answer["lines"]
            after = answer["next"]
            if answer["final"] and not answer["more"]:
                break
    assert [line["seq"] for line in lines] == sorted({line["seq"] for line in lines})
    assert lines[-1]["type"] == "end"
    assert lines == lines_of(session, op)


def test_a_poll_waits_no_longer_than_asked(session: Session) -> None:
    op = session.run("import time; time.sleep(30)", timeout_s=0).op
    began = time.monotonic()
    assert not session.wait(op, timeout_s=0.3).final
    assert 0.3 <= time.monotonic() - began < 25
    session.interrupt(op)


def test_60_000_flushed_prints_all_arrive(session: Session, box: SandboxProcess) -> None:
    source = "for n in range(60_000): print(n, flush=True)"
    op = session.run(source, timeout_s=0).op
    slowest = 0.0
    # The server answers others meanwhile.
    while not (result := session.wait(op, timeout_s=0.3)).final:
        began = time.monotonic()
        session.info()
        slowest = max(slowest, time.monotonic() - began)
    assert result.state == "ok"
    assert slowest < 10.0
    assert streamed(session, op) == "".join(f"{n}\n" for n in range(60_000))
    text = result.text
    assert text.startswith("0\n1\n") and text.endswith("59999\n")
    assert "the whole text is in journal.jsonl, lines" in text


def test_the_journal_is_consecutive_and_the_notebook_valid(
    session: Session, box: SandboxProcess
) -> None:
    after, numbers = 0, []
    while lines := session.journal(after):
        numbers += [line["seq"] for line in lines]
        after = numbers[-1]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {line["boot"] for line in session.journal(0)} == {session.boot}
    nbformat.validate(nbformat.reads(session.notebook(), as_version=4))
    ends = [line["op"] for line in box.journal() if line["type"] == "end"]
    assert len(ends) == len(set(ends)), "an operation ends once"


def test_the_notebook_on_disk_is_never_invalid(session: Session, box: SandboxProcess) -> None:
    path, stop, bad, read = box.workspace / "notebook.ipynb", threading.Event(), [], []

    def look() -> None:
        while not stop.is_set():
            try:
                read.append(len(json.loads(path.read_text())["cells"]))
            except ValueError as error:
                bad.append(error)

    until(path.exists)
    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(5):
        session.run("print('x' * 100_000)")
    last = session.run("'the last cell'").cell or ""
    until(lambda: last in path.read_text(), what="the last cell in the notebook")
    stop.set()
    reader.join()
    assert not bad
    assert read


def test_a_client_that_dies_and_a_reader_that_stalls_lose_nothing(
    session: Session, box: SandboxProcess
) -> None:
    op = uuid.uuid4().hex
    with box.session() as dying:
        dying.run("for n in range(5_000): print(n, flush=True)", op=op, timeout_s=0)
    # A reader that takes nothing of its answer.
    with httpx.stream(
        "GET",
        box.url + "/runner/v1/journal",
        headers={"Authorization": f"token {box.token}"},
    ):
        assert session.wait(op).state == "ok"
    assert streamed(session, op) == "".join(f"{n}\n" for n in range(5_000))


def test_code_that_breaks_the_protocol_does_not_break_the_server(session: Session) -> None:
    session.run(
        "from IPython import get_ipython\n"
        "k = get_ipython().kernel\n"
        "def send(kind, content):\n"
        "    k.session.send(k.iopub_socket, kind, content, parent=k.get_parent())\n"
        "send('stream', {})\nsend('stream', {'name': 1, 'text': None})\nsend('status', {})\n"
        "send('nonsense', {'a': float(1)})\nsend('error', {'ename': None})\n"
        "send('display_data', {'data': 3})\n"
        "deep = []\nfor _ in range(3000): deep = [deep]\n"
        "k.session.pack = lambda o: b'[' * 5000\n"
        "send('display_data', {})\n",
        timeout_s=2,
    )
    session.restart()
    assert session.run("4").text == "4"
    nbformat.validate(nbformat.reads(session.notebook(), as_version=4))


def test_source_that_is_no_unicode_is_refused_with_words(session: Session) -> None:
    result = session.run("'\ud800'")
    assert result.state in ("error", "ok")
    assert session.run("5").text == "5"


def test_old_results_are_read_from_the_journal(session: Session) -> None:
    first = session.run("print('first of many')")
    for _ in range(3):  # pictures of 8 MB push it out of memory
        session.run("from IPython.display import Image\nImage(b'x' * 6_000_000, format='png')")
    assert session.wait(first.op).outputs == first.outputs


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"{}", "kind"),
        (b'{"kind": "execute", "colour": 1}', "colour"),
        (b'{"kind": "edit_cell", "cell": "a", "old": "", "new": ""}', "old"),
    ],
)
def test_requests_that_are_none(
    box: SandboxProcess, session: Session, body: bytes, words: str
) -> None:
    answer = httpx.put(
        f"{box.url}/runner/v1/operations/{uuid.uuid4().hex}",
        params={"boot": session.boot},
        content=body,
        headers={"Authorization": f"token {box.token}"},
    )
    assert answer.status_code == 400
    assert words in answer.json()["message"]
