"""Kernel and server die in every way that happens: what is lost is told, nothing else is lost."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from sandbox_process import READY_S, SandboxProcess, sandbox, until

from runner.errors import SandboxUnreachable
from runner.session import Endpoint, LostOperation, Session


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path_factory.mktemp("deaths")) as made:
        yield made


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        yield made


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal SIGKILL"),
        ("import os; os._exit(7)", "ended by itself with exit status 7"),
        ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
    ],
)
def test_the_kernel_dies(session: Session, box: SandboxProcess, code: str, words: str) -> None:
    running = session.run(
        f"import time; print('before', flush=True)\ntime.sleep(0.3)\n{code}", timeout_s=0
    )
    waiting = [session.run("1", timeout_s=0), session.run("2", hidden=True, timeout_s=0)]
    result = session.wait(running.op)
    assert result.state == "kernel_died"
    assert words in result.reason
    assert result.text.startswith("before\n")
    assert result.outputs[-1]["ename"] == "KernelDied"
    for op in waiting:
        ended = session.wait(op.op)
        assert ended.state == "kernel_died"
        assert "restart it" in ended.reason
    assert session.run("3").state == "kernel_died"
    assert session.info()["kernel"]["state"] == "dead"
    # A client that comes now, to go on with the run, gets in.
    with box.session() as later:
        assert later.boot == session.boot
    assert session.restart().state == "ok"
    assert session.run("3").text == "3"
    ends = [line["op"] for line in session.journal(0) if line["type"] == "end"]
    assert len(ends) == len(set(ends))


def test_what_a_kernel_flushed_before_it_died_is_there(session: Session) -> None:
    result = session.run(
        "import os, time\nfor n in range(4): print(n, flush=True)\ntime.sleep(0.5)\nos._exit(1)"
    )
    assert result.text.startswith("0\n1\n2\n3\n")
    session.restart()


def test_a_background_child_of_the_kernel_does_not_keep_it_alive(session: Session) -> None:
    result = session.run(
        "import subprocess, os\nsubprocess.Popen(['sleep', '100'])\nos._exit(1)", timeout_s=20
    )
    assert result.state == "kernel_died"
    session.restart()


def test_the_server_is_killed_and_starts_again(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        done = session.run("print('done')", op="run-1-1")
        hidden = session.run("print('hidden')", op="run-1-2", hidden=True)
        shell = session.shell("echo shell", op="run.1.3")
        running = session.run(
            "import time; print('begun', flush=True); time.sleep(60)", timeout_s=0
        )
        waiting = session.run("1", timeout_s=0)
        until(lambda: "begun" in session.wait(running.op, timeout_s=0).text)
        before = until(
            lambda: len(box.journal()) == session.info()["journal"]["lines"] and box.journal()
        )
        pid = next(process.pid for process in box.processes())
        box.kill()
        # The kernel ends with the server that it belongs to; a restarted one makes sure of it.
        with (box.state / "journal.jsonl").open("ab") as journal:
            journal.write(b'{"seq": 9999, "torn')
        box.start()
        with box.session() as again:
            assert again.boot != session.boot
            until(lambda: not psutil.pid_exists(pid), what="the old kernel's end")
            lines = again.journal(0)
            assert lines[: len(before)] == before
            assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
            assert lines[len(before)]["type"] == "boot"
            for op in (running.op, waiting.op):
                lost = again.wait(op)
                assert (lost.state, lost.final) == ("lost", True)
            for earlier in (done, hidden, shell):
                with pytest.raises(LostOperation) as caught:
                    session.run("print('done')", op=earlier.op)
                known = caught.value.known
                assert caught.value.boot == again.boot
                assert known is not None
                assert (known.state, known.outputs) == (earlier.state, earlier.outputs)
                assert (known.kind, known.exit) == (earlier.kind, earlier.exit)
            with pytest.raises(LostOperation) as caught:
                again.run("anything", op=done.op)
            assert caught.value.known is not None
            assert "all variables are gone" in again.run("5").warnings[0]
            cells = {cell["id"]: cell for cell in json.loads(again.notebook())["cells"]}
            assert cells[running.cell]["outputs"][-1]["ename"] == "SandboxLost"
            assert "begun\n" in cells[running.cell]["outputs"][0]["text"]
            nbformat.validate(nbformat.reads(again.notebook(), as_version=4))
            assert again.restart().state == "ok"


def test_a_session_goes_on_by_itself_over_a_restart_of_the_server(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        op = session.run("import time; time.sleep(60)", timeout_s=0).op
        caught: list[object] = []
        thread = threading.Thread(
            target=lambda: caught.append(session.wait(op, timeout_s=60).state)
        )
        thread.start()
        until(lambda: session.info()["running"] == [op])
        box.kill()
        box.start()
        thread.join()
        assert caught == ["lost"]


STUBBORN = (
    "import signal, subprocess, sys, os\n"
    "code = 'import signal, time\\n"
    "for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\\n"
    "print(1, flush=True); time.sleep(1000)'\n"
    "child = subprocess.Popen([sys.executable, '-c', code], start_new_session=True, "
    "stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "print('child', child.pid, flush=True)\n"
)


@pytest.mark.parametrize(
    "busy",
    ["", "while True: pass", "import time; time.sleep(100)"],
    ids=["idle", "spins", "sleeps"],
)
def test_sigterm_ends_it_at_once_with_all_its_processes(tmp_path: Path, busy: str) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        session.shell("sleep 1000 & (setsid sleep 1000 &) ; echo started")
        stubborn = session.run(STUBBORN)
        assert "child" in stubborn.text
        op = session.run(f"print('last words', flush=True)\n{busy}", timeout_s=0).op
        until(lambda: "last words" in session.wait(op, timeout_s=0).text)
        assert len(box.processes()) >= 3
        box.signal(signal.SIGTERM)
        began = time.monotonic()
        assert box.wait() == 0
        assert time.monotonic() - began < 10  # and not the time that anything of it sleeps
        assert box.processes() == []
        lines = box.journal()
        assert any(
            line["op"] == op and "last words" in str(line["content"])
            for line in lines
            if line["type"] == "message"
        )
        if busy:
            assert lines[-1]["op"] == op
            assert (lines[-1]["state"], lines[-1]["reason"]) == ("lost", "the sandbox was stopped")
        cells = json.loads((box.workspace / "notebook.ipynb").read_text())["cells"]
        assert "last words" in json.dumps(cells[-1]["outputs"])
        assert "Traceback" not in box.log.read_text()


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/nowhere/bin/python", "No such file"),
        ("without", "No module named"),
        ("ends", "ended by itself with exit status 3"),
    ],
)
def test_a_kernel_that_never_starts_is_told_in_words(
    tmp_path: Path, python: str, words: str
) -> None:
    if python == "without":
        script = f'#!/bin/sh\nexec {Path(sys.executable).resolve()} -S -I "$@"\n'
    else:
        script = "#!/bin/sh\nexit 3\n"
    if not python.startswith("/"):
        made = tmp_path / python
        made.write_text(script)
        made.chmod(0o755)
        python = str(made)
    with sandbox(tmp_path, python=python) as box:
        session = Session(Endpoint(box.url, box.token))
        with pytest.raises(SandboxUnreachable, match=words):
            session.connect(READY_S)
        kernel = session.info()["kernel"]
        assert kernel["state"] == "dead"
        assert words in kernel["reason"]
        session.boot = session.info()["boot"]
        refused = session.run("1")
        assert refused.state == "kernel_died"
        assert words in refused.reason
        assert words in session.restart().reason
        assert session.shell("echo still here").text == "still here\n"
        session.shutdown()
        assert box.wait() == 0
        session.close()


SLOW_TO_ANSWER = """
import time
from ipykernel.kernelbase import Kernel

answer = Kernel.kernel_info_request

async def slowly(self, *given):
    time.sleep(1.5)
    return await answer(self, *given)

Kernel.kernel_info_request = slowly
"""


def test_a_kernel_that_takes_longer_to_answer_than_it_is_asked(tmp_path: Path) -> None:
    """As on a machine where many start at once: each answer comes, and none of them in time."""
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(SLOW_TO_ANSWER)
    with sandbox(tmp_path, env={"PYTHONPATH": str(tmp_path / "patch")}) as box, box.session() as it:
        assert it.run("1 + 1").text == "2"
