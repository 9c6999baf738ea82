"""The agent container's parts: whether it goes on, how it is cancelled, its last words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan, make_record

from runner.agent.options import AgentOptions
from runner.agent.story import tell
from runner.errors import RecordError
from runner.pod import agent, attempts, cancel, termination
from runner.record import Record, check_chain, writer
from runner.record.chain import NO_LINE, mark


def attempt(number: int, uid: str, job: str = "run-1-1") -> dict[str, Any]:
    return {"type": "attempt", "attempt": number, "job": job, "pod": f"pod-{uid}", "pod_uid": uid}


def ended(state: str, status: int) -> dict[str, Any]:
    return {"type": "end", "state": state, "exit_status": status}


def begin(*lines: dict[str, Any], on_disruption: str | None = None) -> attempts.Begin:
    run = {"type": "run"}
    return attempts.begin([run, *lines], "run-1-1", "me", "as asked", on_disruption=on_disruption)


def test_the_first_pod_of_a_job_begins_as_its_client_says() -> None:
    assert begin() == attempts.Begin("as asked")
    other = [attempt(1, "a", job="run-1-0"), ended("done", 0)]
    assert begin(*other) == attempts.Begin("as asked"), "a resumed run is another Job's"
    assert begin(attempt(1, "me"), attempt(2, "me")) == attempts.Begin("as asked")


def test_a_pod_that_replaces_another_goes_on() -> None:
    found = begin(attempt(1, "a"), ended("interrupted", 143))
    assert found == attempts.Begin("pod pod-a is gone; this one goes on")
    assert begin(attempt(1, "a")).reason == found.reason, "it was lost without a word"


def test_a_run_that_is_over_is_not_begun_again() -> None:
    assert begin(attempt(1, "a"), ended("done", 0)).over == 0
    assert begin(attempt(1, "a"), ended("bound", 4)).over == 4


def test_a_run_that_must_not_go_on() -> None:
    assert 'on_disruption is "fail"' in begin(attempt(1, "a"), on_disruption="fail").refusal
    many = [attempt(i, str(i)) for i in range(attempts.MOST_PODS)]
    assert f"{attempts.MOST_PODS} pods of it are gone" in begin(*many).refusal
    assert begin(*many[1:]).refusal == ""


def test_since_when_it_has_its_gpus(tmp_path: Path) -> None:
    (tmp_path / "plan.json").touch()
    os.utime(tmp_path / "plan.json", (1764244800.25, 1764244800.25))
    assert agent.since(tmp_path / "plan.json") == {"since": "2025-11-27T12:00:00.250Z"}


def test_where_it_runs() -> None:
    given = {"POD_NAME": "run-1-1-x7k2p", "POD_UID": "u", "NODE_NAME": "n"}
    assert agent.place(given) == {
        "job": "run-1-1",
        "pod": "run-1-1-x7k2p",
        "pod_uid": "u",
        "node": "n",
    }
    assert agent.place({}) == {}


# -- cancelling ----------------------------------------------------------------------------

WAITING = """
import signal, sys, time
from pathlib import Path
from runner.pod import cancel
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
cancel.expect(Path(sys.argv[1]), Path(sys.argv[2]))
signal.sigwait({signal.SIGTERM})
print(Path(sys.argv[1]).read_text())
"""


@pytest.mark.parametrize("before", [True, False])
def test_cancelling_reaches_the_agent_also_before_it_is_there(tmp_path: Path, before: bool) -> None:
    words, pid = tmp_path / "cancel", tmp_path / "pid"
    if before:
        cancel.cancel("Zoë wants it", words, pid)
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, str(words), str(pid)], stdout=subprocess.PIPE, text=True
    ) as process:
        while not before and not pid.exists():
            assert process.poll() is None
        if not before:
            cancel.cancel("Zoë wants it", words, pid)
        assert process.communicate(timeout=30)[0].strip() == "Zoë wants it"


# -- last words ----------------------------------------------------------------------------


def test_the_last_words_are_one_line_of_json(tmp_path: Path) -> None:
    record = make_record(tmp_path, make_plan())
    journal = record.journal_mark()
    record.say("attempt", attempt=1, host="h", pid=1, reason="started")
    record.say(
        "end", state="bound", reason="é" * 9000, bound="turns", exit_status=4, journal=journal
    )
    record.close()
    line = termination.message(record.path, 4)
    assert len(line.encode()) <= termination.MOST_BYTES
    said = json.loads(line)
    assert (said["state"], said["exit_status"], said["turns"]) == ("bound", 4, 0)
    assert said["reason"].startswith("éé")
    chain = check_chain(record.path / "transcript.jsonl")
    assert said["transcript"] == {"lines": chain.lines, "head": chain.head}
    assert said["journal"] == {"lines": 0, "head": NO_LINE}


def test_the_last_words_where_there_is_no_record(tmp_path: Path) -> None:
    said = json.loads(termination.message(tmp_path, 3, "no lock"))
    assert (said["state"], said["reason"], said["exit_status"]) == ("failed", "no lock", 3)
    termination.write("x", tmp_path / "nowhere" / "log")  # told in the log, raises nothing


def test_mark_counts_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert mark(file) == {"lines": 0, "head": NO_LINE}
    file.write_bytes(b'{"a":1}\n{"b"')
    assert mark(file)["lines"] == 1


# -- what is printed -----------------------------------------------------------------------


def test_what_is_printed_goes_to_the_file_too(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom runner.pod.tee import Tee\n"
        "with Tee(Path(sys.argv[1])) as tee:\n"
        "    print('one')\n    tee.start()\n    os.system('echo two; echo three >&2; printf four')\n"
        "print('five')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "log")], capture_output=True, text=True
    )
    assert done.stdout == "one\ntwo\nthree\nfourfive\n"
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\nfour"


def test_a_disk_that_is_full_does_not_end_the_log() -> None:
    code = (
        "from pathlib import Path\nfrom runner.pod.tee import Tee\n"
        "with Tee(Path('/dev/full')) as tee:\n    tee.start()\n    print('one')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "one\n")


def test_the_story_tells_no_content() -> None:
    message = {
        "role": "assistant",
        "turn": 3,
        "content": [
            {"type": "text", "text": "my key is hunter2"},
            {"type": "tool_use", "name": "run_cell", "input": {"source": "hunter2"}},
        ],
        "usage": {"input_tokens": 1200, "output_tokens": 34},
        "cost_usd": 0.5,
    }
    assert tell("message", message) == "turn 3: run_cell (1,234 tokens, $0.5000)"
    result = {"turn": 3, "tool": "run_cell", "is_error": True, "op": "r-3-1", "content": "hunter2"}
    assert tell("tool_result", result) == "turn 3: run_cell failed (r-3-1)"
    assert tell("state", {"state": "ending", "reason": "a\nb"}) == "state ending: a b"
    assert tell("run", {}) == ""


# -- two writers ---------------------------------------------------------------------------


def test_a_writer_stops_where_another_has_written(tmp_path: Path) -> None:
    """The agent of a lost node may still run when another has taken the run over."""
    plan = make_plan()
    mine = make_record(tmp_path, plan)
    mine.say("state", state="starting", reason="")
    other = Record.open(mine.path, write=True)
    other.say("state", state="running", reason="")
    with pytest.raises(RecordError, match="another process wrote to it"):
        mine.say("state", state="ending", reason="")
    other.say("state", state="ending", reason="")
    chain = check_chain(mine.path / "transcript.jsonl")
    assert (chain.lines, chain.bad) == (4, None)


# -- another pod has come ------------------------------------------------------------------

SUPERVISE = """
import sys
from pathlib import Path
from runner.agent import __main__ as agent
sys.executable = "/bin/false"  # what the worker's program would be
print(agent.supervise(Path(sys.argv[1])))
"""


def test_a_supervisor_whose_worker_left_to_another_pod_writes_nothing(tmp_path: Path) -> None:
    record = make_record(tmp_path, make_plan())
    record.close()
    before = (record.path / "transcript.jsonl").read_bytes()
    options = AgentOptions(
        record=record.path,
        url="http://127.0.0.1:1",
        token_file=tmp_path / "token",
        cancel=tmp_path / "cancel",
        where={"pod_uid": "first"},
    )
    file = tmp_path / "options.json"
    file.write_text(options.model_dump_json())
    writer.claim(record.path, "second")
    told = subprocess.run([sys.executable, "-c", SUPERVISE, file], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (writer.LEFT, ""), told.stderr
    assert (record.path / "transcript.jsonl").read_bytes() == before


# -- a worker that is killed when it has said how the run ended ----------------------------

ENDS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from runner.record import Record, now
path = Path(sys.argv[1])
end = {"state": "bound", "reason": "", "bound": "turns", "exit_status": 4, "journal": {}}
line = {"seq": 2, "time": now(), "type": "end", **end}
Record.open(path, write=True).transcript.append(line, sync=True)
(path / f".{os.getpid()}.0a1b2c3d.tmp").write_text("{")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_killed_after_its_last_line_leaves_a_whole_record(tmp_path: Path) -> None:
    record = make_record(tmp_path, make_plan())
    record.close()
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{ENDS_AND_DIES}' {record.path}\n")
    program.chmod(0o755)
    options = AgentOptions(
        record=record.path,
        url="http://127.0.0.1:1",
        token_file=tmp_path / "token",
        cancel=tmp_path / "cancel",
    )
    file = tmp_path / "options.json"
    file.write_text(options.model_dump_json())
    supervise = SUPERVISE.replace("/bin/false", str(program))
    told = subprocess.run([sys.executable, "-c", supervise, file], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "4\n"), told.stderr
    assert (record.glance().state, record.glance().exit_status) == ("bound", 4)
    assert not list(record.path.glob(".*.tmp"))
