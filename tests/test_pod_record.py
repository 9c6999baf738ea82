"""What the record's commands do in a pod: as processes, with directories instead of mounts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan
from pods import packed
from test_record import JOURNAL
from test_stream import count, finish, grow, same, until

from runner.errors import InfrastructureError, RecordError, UsageError
from runner.plan import InputFile, RunPlan
from runner.pod import close, hold, record, remove, send
from runner.pod.__main__ import main
from runner.record import Record, read_lines
from runner.record.copy import RecordCopy
from runner.record.receiver import Receiver
from runner.record.travel import RECEIVING, unpack, write_tar
from runner.record.verify import verify

CALL = "import sys; from pathlib import Path; from runner.pod import {0}; sys.exit({1})"
RECEIVE = (
    "import sys; from pathlib import Path; from runner.record.travel import unpack; "
    "unpack(sys.stdin.buffer, Path(sys.argv[1]))"
)
SEND = CALL.format(
    "send",
    "send.send(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer, follow=len(sys.argv) > 2, "
    "begun=Path(sys.argv[-1]))",
)


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A command as a process of its own."""
    argv = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Record]:
    """A record in the store."""
    made = Record.create(tmp_path / "store", "r1", make_plan().record())
    yield made
    made.close()


# -- the dispatcher ------------------------------------------------------------------------


def test_a_command_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nonsense"], ["__main__"]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "expected one of agent, cancel" in said and "Traceback" not in said


def test_a_command_in_trouble_says_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["close", "nonsense"]) == 2
    assert "expected STATE STATUS REASON" in capsys.readouterr().err
    assert main(["hold", "x"]) == 2
    assert main(["send", "x"]) == 2


# -- record: into the pod ------------------------------------------------------------------


def given(run: Record) -> RunPlan:
    """A plan with inputs and volumes, whose files the record has."""
    item = InputFile(path="deep/run.sh", sha256=run.add_input(b"echo"), bytes=4, mode=0o755)
    places = ("models/w", "/models")
    plan = make_plan(sandbox={"volumes": [{"name": "w", "path": path} for path in places]})
    return plan.model_copy(update={"inputs": (item,)})


def test_the_workspace_is_filled_once(store: Record, tmp_path: Path) -> None:
    """The container may run again, when its node restarts: by then the agent has changed things."""
    plan = given(store)
    grow(store)
    workspace, state = tmp_path / "workspace", tmp_path / "state"
    workspace.mkdir()
    state.mkdir()
    record.prepare(plan, store.path, workspace, state)
    script = workspace / "deep" / "run.sh"
    assert script.read_text() == "echo"
    assert script.stat().st_mode & 0o777 == 0o755
    assert (workspace / "outputs" / "plots" / "ä b.png").read_bytes() == b"png" * 1000
    assert (workspace / "models" / "w").is_dir()
    restored = [line for line, _ in read_lines(state / "journal.jsonl")]
    assert restored == JOURNAL
    script.write_text("changed")
    record.prepare(plan, store.path, workspace, state)
    assert script.read_text() == "changed"


def test_an_input_that_was_altered_is_refused(store: Record, tmp_path: Path) -> None:
    plan = given(store)
    (store.path / "inputs" / plan.inputs[0].sha256).write_bytes(b"rm -rf")
    with pytest.raises(RecordError, match="altered"):
        record.prepare(plan, store.path, tmp_path, tmp_path)


def test_a_record_travels_once(store: Record, tmp_path: Path) -> None:
    """What the store has is newer than what came with the Job."""
    travelling, place = tmp_path / "record.tar.gz", tmp_path / "record"
    place.mkdir()
    with pytest.raises(InfrastructureError, match="none came with the Job"):
        record.arrive(travelling, place, None)
    travelling.write_bytes(packed(store.path))
    record.arrive(travelling, place, None)
    same(store.path, place)
    there = Record.open(place, write=True)
    there.say("state", state="running", reason="")
    there.close()
    record.arrive(travelling, place, None)
    assert count(place / "transcript.jsonl") == 2


# -- send ----------------------------------------------------------------------------------


def test_send_once(store: Record, tmp_path: Path) -> None:
    grow(store)
    copy = RecordCopy(tmp_path / "copy")
    for _ in range(2):
        process = start(SEND, store.path)
        out, err = process.communicate(json.dumps(copy.have()).encode() + b"\n", timeout=30)
        assert (process.returncode, err) == (0, b"")
        receiver = Receiver(copy)
        receiver.take([out])
        assert receiver.complete and not receiver.over
        store.say("state", state="running", reason="")
    finish(store)


def test_no_record_has_a_status_of_its_own(tmp_path: Path) -> None:
    process = start(SEND, tmp_path)
    _, err = process.communicate(b"{}\n", timeout=30)
    assert process.returncode == send.NO_RECORD
    assert b"has no record" in err


def test_nonsense_on_stdin_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="expected JSON"):
        send.send(tmp_path, io.BytesIO(b"nonsense\n"), io.BytesIO(), follow=False)


@contextlib.contextmanager
def following(
    store: Record, copy: Path, begun: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Receiver]]:
    """`send --follow`, and what reads it; its agent has begun where that file is there."""
    process = start(SEND, store.path, begun or store.path)
    receiver = Receiver(RecordCopy(copy))
    assert process.stdin and process.stdout and process.stderr
    output = process.stdout
    reader = threading.Thread(
        target=lambda: receiver.take(iter(lambda: os.read(output.fileno(), 1 << 16), b""))
    )
    process.stdin.write(json.dumps(receiver.have()).encode() + b"\n")
    process.stdin.flush()
    reader.start()
    try:
        yield process, receiver
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def test_send_follows_to_the_end(store: Record, tmp_path: Path) -> None:
    with following(store, tmp_path / "copy") as (process, receiver):
        until(lambda: count(tmp_path / "copy" / "transcript.jsonl") == 1, "the first line", 30)
        grow(store)
        finish(store)
        assert process.wait(20) == 0
        until(lambda: receiver.complete, "all of it")
    same(store.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_the_end_of_an_earlier_attempt_is_none_before_the_agent_has_begun(
    store: Record, tmp_path: Path
) -> None:
    """A pod whose agent is about to begin: its record ends with the end of the pod before it."""
    grow(store)
    journal = store.journal_mark()
    store.say("end", state="interrupted", reason="r", bound=None, exit_status=143, journal=journal)
    begun = tmp_path / "begun"
    with following(store, tmp_path / "copy", begun) as (process, receiver):
        until(lambda: count(tmp_path / "copy" / "transcript.jsonl") == 4, "the earlier end", 30)
        assert not receiver.complete
        lock = store.take_lock()
        begun.touch()
        store.say("attempt", attempt=2, reason="it goes on")
        until(lambda: count(tmp_path / "copy" / "transcript.jsonl") == 5, "the attempt", 30)
        finish(store)
        os.close(lock)
        assert process.wait(20) == 0
        until(lambda: receiver.complete, "all of it")
    same(store.path, tmp_path / "copy")


def test_send_ends_with_its_reader(store: Record, tmp_path: Path) -> None:
    with following(store, tmp_path / "copy") as (process, _):
        until(lambda: count(tmp_path / "copy" / "transcript.jsonl") == 1, "the first line", 30)
        assert process.stdin
        process.stdin.close()
        assert process.wait(20) == 0


def test_send_ends_when_nobody_reads(store: Record, tmp_path: Path) -> None:
    process = start(SEND, store.path, store.path)
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    for _ in range(3):
        store.say("state", state="running", reason="x" * 100_000)
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def test_the_last_moment_waits_for_those_who_follow(tmp_path: Path) -> None:
    lock = tmp_path / "senders"
    assert send.wait_for_senders(0.0, lock)
    with send.known(lock), send.known(lock):
        assert not send.wait_for_senders(0.05, lock)
    assert send.wait_for_senders(0.0, lock)


# -- receive, close, remove ----------------------------------------------------------------


def test_receive_takes_an_archive_while_its_input_stays_open(store: Record, tmp_path: Path) -> None:
    grow(store)
    archive = io.BytesIO()
    write_tar(store.path, archive)
    process = start(RECEIVE, tmp_path / "there")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(archive.getvalue())
    process.stdin.flush()
    assert process.wait(30) == 0
    process.communicate()
    same(store.path, tmp_path / "there")


def test_those_who_bring_a_record_at_once_take_turns(store: Record, tmp_path: Path) -> None:
    """As one that follows a run does, another one that cancels it, and the run's own pod."""
    grow(store)
    archive = io.BytesIO()
    write_tar(store.path, archive)
    travelling = tmp_path / "travelling"
    travelling.write_bytes(packed(store.path))
    there, half = tmp_path / "there", len(archive.getvalue()) // 2
    arrive = CALL.format("record", "record.arrive(Path(sys.argv[1]), Path(sys.argv[2]), None)")
    first = start(RECEIVE, there)
    assert first.stdin
    first.stdin.write(archive.getvalue()[:half])
    first.stdin.flush()
    until(lambda: (there / ".receiving").is_dir(), "the first one receives", 30)
    second, pod = start(RECEIVE, there), start(arrive, travelling, there)
    assert second.stdin
    second.stdin.write(archive.getvalue())
    second.stdin.flush()
    for waits in (second, pod):
        until(lambda pid=waits.pid: _has_open(pid, there / RECEIVING), "it waits its turn", 30)
    first.stdin.write(archive.getvalue()[half:])
    first.stdin.flush()
    for process in (first, second, pod):
        assert process.wait(30) == 0
        process.communicate()
    same(store.path, there)


def test_a_record_that_grew_is_left_by_the_pod_that_brings_it(
    store: Record, tmp_path: Path
) -> None:
    brought, there = packed(store.path), tmp_path / "there"
    grow(store)
    archive = io.BytesIO()
    write_tar(store.path, archive)
    unpack(io.BytesIO(archive.getvalue()), there)
    lock = Record.open(there).take_lock()
    unpack(io.BytesIO(brought), there, packed=True, only_new=True)
    os.close(lock)
    same(store.path, there)


def _has_open(pid: int, file: Path) -> bool:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if fd.readlink() == file:
                return True
    return False


def test_receive_leaves_a_record_that_somebody_writes(store: Record, tmp_path: Path) -> None:
    archive = io.BytesIO()
    write_tar(store.path, archive)
    archive.seek(0)
    lock = store.take_lock()
    with pytest.raises(RecordError, match="another process drives"):
        unpack(archive, store.path)
    os.close(lock)


def test_close_takes_its_arguments_as_they_come(store: Record) -> None:
    store.close()
    for wrong in ([], ["done"], ["x", "3", ""], ["done", "x", ""], ["done", "3", "", ""]):
        with pytest.raises(UsageError, match="STATE STATUS REASON"):
            close.end(wrong, store.path)
    assert close.end(["interrupted", "none", "it's \n gone"], store.path)
    state = Record.open(store.path).state()
    assert (state.state, state.exit_status, state.reason) == ("interrupted", None, "it's \n gone")
    assert not close.end(["interrupted", "3", "again"], store.path)


def test_remove_empties_the_directory(store: Record, tmp_path: Path) -> None:
    grow(store)
    lock = store.take_lock()
    with pytest.raises(RecordError, match="another process drives"):
        remove.remove(store.path)
    os.close(lock)
    (store.path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    remove.remove(store.path)
    assert list(store.path.iterdir()) == []
    assert (tmp_path / "elsewhere").is_dir()
    remove.remove(store.path)


# -- hold ----------------------------------------------------------------------------------


def test_hold_ends_when_it_is_told_to(tmp_path: Path) -> None:
    process = start("import sys; from runner.pod import hold; sys.exit(hold.main(['600']))")
    until(lambda: "S" in _state(process.pid) and _handles_term(process.pid), "it waits", 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.communicate()


def test_hold_stays_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOOK_S", 0.001)
    uses = iter([True] * 50)
    hold.hold(0.01, threading.Event(), lambda: next(uses, False))
    assert next(uses, None) is None


def test_hold_sees_other_processes(tmp_path: Path) -> None:
    def process(pid: int, state: str) -> None:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {state} 1 1")

    (tmp_path / "self").mkdir()
    (tmp_path / "7").mkdir()  # one that has just ended
    process(os.getpid(), "R")
    process(os.getppid(), "S")
    process(2_000_001, "Z")
    assert not hold.others(tmp_path)
    process(2_000_002, "S")
    assert hold.others(tmp_path)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _handles_term(pid: int) -> bool:
    status: dict[str, Any] = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":" in line
    )
    return bool(int(status["SigCgt"], 16) & 1 << signal.SIGTERM - 1)
