"""Cells that print, show and leave behind more than they should: all of it is kept, or told of."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import nbformat
import psutil
import pytest
from invariants import RAN, NotebookReader, check_journal
from sandbox_process import SandboxProcess, sandbox, until

from runner.session import Session

pytestmark = pytest.mark.timeout(600)

MB = 1_000_000
LONG_S = 300.0


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("cells")) as made:
        yield made
        check_journal(made.journal(), made.workspace / RAN)


@pytest.fixture
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made, NotebookReader(box.workspace / "notebook.ipynb"):
        yield made
        if made.info()["kernel"]["state"] == "dead":
            made.restart()


def messages(box: SandboxProcess, op: str, *kinds: str) -> list[dict[str, Any]]:
    """What the kernel sent for an operation."""
    box_lines = [line for line in box.journal() if line["type"] == "message"]
    return [x["content"] for x in box_lines if x["op"] == op and x["msg_type"] in kinds]


def printed(box: SandboxProcess, op: str) -> str:
    return "".join(content["text"] for content in messages(box, op, "stream"))


def shown(session: Session, cell: str | None) -> list[Any]:
    """A cell's outputs in the notebook."""
    notebook = nbformat.reads(session.notebook(), as_version=4)
    nbformat.validate(notebook)
    [found] = [each for each in notebook.cells if each.id == cell]
    return list(found.outputs)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_images_are_all_in_the_journal(
    session: Session, box: SandboxProcess, count: int
) -> None:
    result = session.run(
        "from IPython.display import Image, display\n"
        f"for n in range({count}): display(Image(b'%d' % n, format='png'))",
        timeout_s=LONG_S,
    )
    assert result.state == "ok"
    assert len(messages(box, result.op, "display_data")) == count
    first, *_, last = shown(session, result.cell)
    assert "MA==" in json.dumps(first)
    assert b64encode(b"%d" % (count - 1)).decode() in json.dumps(last)


@pytest.mark.parametrize("size", [5 * MB, pytest.param(50 * MB, marks=pytest.mark.long)])
def test_one_long_line_arrives_whole(session: Session, box: SandboxProcess, size: int) -> None:
    assert box.process is not None
    server = psutil.Process(box.process.pid)
    result = session.run(f"print('x' * {size})", timeout_s=LONG_S)
    assert result.state == "ok"
    until(lambda: len(printed(box, result.op)) == size + 1, LONG_S)
    assert len(result.text) < MB
    assert len(session.notebook()) < 20 * MB
    assert server.is_running()


@pytest.mark.long
def test_100_mb_are_kept(session: Session, box: SandboxProcess) -> None:
    line = "0123456789" * 10
    result = session.run(f"for n in range(1_000_000): print({line[:99]!r})", timeout_s=LONG_S)
    assert result.state == "ok"
    assert len(printed(box, result.op)) == 100 * MB


def test_bytes_that_are_no_text_from_a_child_and_from_the_kernel(
    session: Session, box: SandboxProcess
) -> None:
    result = session.run(
        "import os, subprocess\n"
        "os.write(1, b'one \\xff\\xfe two\\n')\n"
        "_ = subprocess.run(['printf', 'three \\\\377 four\\\\n'])\n"
        "print('five \\udcff six')"
    )
    assert result.state in ("ok", "error")
    until(lambda: "three" in json.dumps(box.journal()) or "four" in json.dumps(box.journal()))
    assert session.run("'goes on'").text == "'goes on'"
    nbformat.validate(nbformat.reads(session.notebook(), as_version=4))


def test_a_progress_bar_is_one_line_and_keeps_its_colours(session: Session) -> None:
    result = session.run(
        "for n in range(101): print(f'\\r\\x1b[32m{n:3} %\\x1b[0m', end='', flush=True)\nprint()"
    )
    [output] = shown(session, result.cell)
    assert output["text"] == "\x1b[32m100 %\x1b[0m\n"


def test_outputs_are_cleared_when_the_next_one_comes(session: Session) -> None:
    result = session.run(
        "from IPython.display import clear_output\n"
        "for n in range(50):\n    clear_output(wait=True)\n    print('step', n)"
    )
    [output] = shown(session, result.cell)
    assert output["text"] == "step 49\n"


def test_a_daemon_that_holds_stdout_does_not_hold_the_cell(
    session: Session, box: SandboxProcess
) -> None:
    result = session.run(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n        time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint('forked')",
        timeout_s=60,
    )
    assert (result.state, result.text) == ("ok", "forked\n")
    assert session.run("'next'").text == "'next'"


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [
        ("import os; os.abort()", "kernel_died", "SIGABRT"),
        ("import sys; sys.exit(3)", "error", "SystemExit"),
    ],
)
def test_a_cell_that_ends_the_kernel_is_told_of(
    session: Session, code: str, state: str, words: str
) -> None:
    result = session.run(code, timeout_s=60)
    assert (result.state, words in result.reason) == (state, True), result


def test_a_cell_that_asks_the_kernel_to_leave_ends_well_and_the_next_one_is_told(
    session: Session,
) -> None:
    assert session.run("exit()").state == "ok"
    until(lambda: session.info()["kernel"]["state"] == "dead", what="the kernel is gone")
    assert session.run("1").state == "kernel_died"


def test_a_reader_that_stalls_loses_nothing(
    session: Session, box: SandboxProcess, request: pytest.FixtureRequest
) -> None:
    total = 60_000 if float(request.config.getoption("--stall")) >= 30 else 6_000
    op = session.run(f"for n in range({total}): print(n, flush=True)", timeout_s=0).op
    port = int(box.url.rpartition(":")[2])
    # Asks for everything again and again, and takes nothing of any answer.
    asked = (
        "GET /runner/v1/journal?after=0&wait=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: token {box.token}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as stalled:
        stalled.sendall(asked.encode() * 20)
        assert session.wait(op, timeout_s=LONG_S).state == "ok"
    assert printed(box, op) == "".join(f"{n}\n" for n in range(total))
