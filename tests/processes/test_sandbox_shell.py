"""Shell commands on a real sandbox server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from sandbox_process import SandboxProcess, sandbox, until

from runner.session import Session


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("shell")) as made:
        yield made


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


def streams(session: Session, op: str) -> dict[str, str]:
    texts = {"stdout": "", "stderr": ""}
    for line in session.stream(op, timeout_s=60):
        if line["type"] == "shell_output":
            texts[line["stream"]] += line["text"]
    return texts


def test_output_and_status(session: Session, box: SandboxProcess) -> None:
    result = session.shell("echo out; echo err >&2; pwd; exit 3")
    assert (result.kind, result.state, result.exit) == ("shell", "error", 3)
    assert result.reason == "exit status 3"
    assert {output["name"] for output in result.outputs} == {"stdout", "stderr"}
    assert streams(session, result.op) == {"stdout": f"out\n{box.workspace}\n", "stderr": "err\n"}
    assert session.shell("true").state == "ok"


def test_a_signal_is_told(session: Session) -> None:
    assert session.shell("kill -9 $$").exit == -9


def test_there_is_no_input(session: Session) -> None:
    assert session.shell("cat; read x || echo none").text == "none\n"


@pytest.mark.parametrize(
    "command", ["sleep 60 &", "(sleep 60; echo late) & echo now", "setsid yes &"]
)
def test_a_background_child_does_not_hold_the_result(session: Session, command: str) -> None:
    began = time.monotonic()
    result = session.shell(command, timeout_s=30)
    assert result.state == "ok"
    assert time.monotonic() - began < 10


def test_no_output_is_lost(session: Session) -> None:
    op = session.shell("seq 1 300000", timeout_s=60).op
    assert streams(session, op)["stdout"] == "".join(f"{n}\n" for n in range(1, 300_001))
    # As much as a pipe holds, and the command is gone before anybody has read it.
    for _ in range(5):
        op = session.shell("head -c 65536 /dev/zero | tr '\\0' x").op
        assert streams(session, op)["stdout"] == "x" * 65536


def test_bytes_that_are_no_text(session: Session) -> None:
    result = session.shell(
        "head -c 100000 /dev/zero | tr '\\0' '\\377'; printf '\\xe2\\x82'; printf '\\xac'"
    )
    assert result.state == "ok"
    assert result.text.endswith("€")


def test_commands_run_beside_the_kernel_and_each_other(session: Session) -> None:
    cell = session.run("import time; time.sleep(60)", timeout_s=0)
    first = session.shell("while [ ! -e go ]; do sleep 0.05; done; echo gone on", timeout_s=0)
    assert session.shell("touch go").state == "ok"
    assert session.wait(first.op).text == "gone on\n"
    session.interrupt(cell.op)


@pytest.mark.parametrize(
    "command",
    [
        "echo begun; sleep 60; echo not this",
        "echo begun; sleep 60 | cat | cat",
        "echo begun; bash -c 'sleep 60; true'",
        "trap '' INT TERM; echo begun; while true; do sleep 1; done",
    ],
)
def test_interrupt_ends_the_whole_group(
    session: Session, box: SandboxProcess, command: str
) -> None:
    before = set(box.processes())
    running = session.shell(command, timeout_s=0)
    until(lambda: "begun" in session.wait(running.op, timeout_s=0).text)
    ended = session.interrupt(running.op)
    assert ended.state == "interrupted"
    assert ended.text == "begun\n" or ended.text.startswith("begun\nInterrupted")
    until(lambda: set(box.processes()) <= before, 10, "the end of the group")


def test_an_interrupt_that_comes_at_once(session: Session) -> None:
    op = session.shell("sleep 60", timeout_s=0).op
    assert session.interrupt(op).state == "interrupted"


def test_the_same_command_again_is_done_once(session: Session) -> None:
    op = uuid.uuid4().hex
    for _ in range(3):
        assert session.shell("echo x >> count; wc -l < count", op=op).text.strip() == "1"


def test_a_command_that_cannot_be_sent_to_a_shell(session: Session) -> None:
    result = session.shell("echo a\0b")
    assert result.state == "error"
    assert "null byte" in result.reason
    assert session.shell("echo x" * 100_000).state == "error"
