"""The command line on real runs: one that is done, one that goes on, one that ends by a bound."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from tiny_runs import cell, end, processes_of, until, waiting

from runner import cli

DEADLINE_S = 60.0
RUNNER = [sys.executable, "-m", "runner"]


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    status: int
    stdout: str
    stderr: str


class Shell:
    """A directory and an environment in which commands are typed."""

    def __init__(self, top: Path) -> None:
        self.top, self.place = top, top / "here"
        self.place.mkdir()
        kept = {name: value for name, value in os.environ.items() if "RUNNER_" not in name}
        self.env = {**kept, "RUNNER_STATE_DIR": str(top / "state"), "BROWSER": "true"}

    def __call__(self, *words: str, status: int = 0, stdin: str = "") -> Said:
        """Type a command; those that start a run are processes, as they are in real life."""
        said = (self.process if words[0] in ("submit", "resume") else self.inside)(words, stdin)
        assert said.status == status, f"{words}: {said.status}\n{said.stdout}{said.stderr}"
        assert "Traceback" not in said.stderr
        return said

    def process(self, words: Sequence[str], stdin: str) -> Said:
        done = subprocess.run(
            [*RUNNER, *words],
            cwd=self.place,
            env=self.env,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=DEADLINE_S,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def inside(self, words: Sequence[str], stdin: str) -> Said:
        """The same in this process, which saves the imports."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.place),
            mock.patch.dict(os.environ, self.env, clear=True),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = cli.main(words)
        return Said(status, out.getvalue(), err.getvalue())

    def json(self, *words: str, status: int = 0) -> list[dict[str, Any]]:
        done = self(*words, "--json", status=status)
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RUNNER, *words],
            cwd=self.place,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def experiment(self, name: str, *steps: Mapping[str, Any], top: str = "") -> str:
        folder = self.place / name
        folder.mkdir()
        (folder / "script.json").write_text(json.dumps({"steps": steps}))
        (folder / "experiment.toml").write_text(
            f'name = "{name}"\ntask = "Do it."\n{top}\n'
            '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
        )
        return f"{name}/experiment.toml"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    yield shell
    for record in (shell.place / "runs").glob("*"):
        shell("delete", record.name, "--yes", "--force")
    assert not list((shell.place / "runs").iterdir())
    assert not list((shell.top / "state").iterdir())
    until(lambda: not list(processes_of(shell.top)), "no process is left", 10)


class Done:
    """A run that went well, and what was said of it."""

    def __init__(self, runner: Shell) -> None:
        source = "import pathlib; pathlib.Path('outputs/a.txt').write_text('made'); print('hello')"
        (runner.place / "score.py").write_text("print('{\"score\": 0.5}')\n")
        file = runner.experiment(
            "good",
            {"text": "I begin.", **cell(source)},
            cell("1 / 0"),
            end(),
            top='score = "../score.py"',
        )
        self.process = runner("submit", file)
        self.lines = self.process.stdout.splitlines()
        self.run_id = self.lines[0].removeprefix("runner open ")
        self.path = runner.place / "runs" / self.run_id


@pytest.fixture(scope="module")
def done(runner: Shell) -> Done:
    return Done(runner)


@pytest.mark.parametrize("part", ["steps", "end", "notes"])
def test_submit_in_a_pipe(done: Done, part: str) -> None:
    out = done.process.stdout
    assert done.lines[1] == f"run {done.run_id}"
    assert all(line.isprintable() for line in done.lines)
    steps = [line[10:] for line in done.lines]
    if part == "steps":
        wanted = [
            "installing 29 packages", "the kernel is ready", "running", "turn 1", "I begin.",
            "cell 1", "cell 1: done", "hello", "cell 2", "cell 2: failed", "ZeroDivisionError",
            "turn 3", "kept outputs/a.txt, 4 B", "score {", "done: the agent ended the run",
        ]  # fmt: skip
        at = 0
        for words in wanted:
            at = next((n for n in range(at, len(steps)) if words.split("29")[0] in steps[n]), -1)
            assert at >= 0, f"{words} is missing, or comes too early, in\n{out}"
    elif part == "end":
        last = out.partition("\n\n")[2]
        assert last.startswith("done: the agent ended the run\n  outputs a.txt 4 B\n")
        assert '  score   {"score": 0.5}\n' in last
        assert f"  record  runs/{done.run_id}\n" in last
        assert f"runner fetch {done.run_id} --to DIR" in last
    else:
        notes = done.process.stderr.splitlines()
        assert notes[:2] == ["checking this machine", "resolving packages"]
        assert len([line for line in notes if "local does not isolate" in line]) == 1


def test_the_head_that_was_printed_verifies(runner: Shell, done: Done) -> None:
    [head] = [line.split()[1] for line in done.lines if line.startswith("  head ")]
    said = runner("verify", done.run_id, "--head", head).stdout
    assert said.startswith(f"{done.run_id}: as it was written and has the head given\n")
    assert "evidence outputs/a.txt" in said
    assert runner.json("verify", done.run_id, "--head", head)[0]["ok"]
    assert "never had the head" in runner("verify", "--head", "0" * 63 + "1", status=3).stdout


def test_list_and_status(runner: Shell, done: Done) -> None:
    header, *rows = runner("list", "--name", "good").stdout.splitlines()
    assert header.split()[:3] == ["RUN", "STATE", "MODEL"]
    assert [row.split()[:3] for row in rows] == [[done.run_id, "done", "scripted"]]
    assert "score=0.5" in rows[0]
    assert runner("list", "--state", "failed").stdout == ""
    [item] = runner.json("list", "--name", "good")
    assert (item["state"], item["exit_status"], item["score"]) == ("done", 0, {"score": 0.5})
    said = runner("status", done.run_id).stdout
    assert "  state     done: the agent ended the run\n" in said
    assert "  turns     3 of 200\n" in said
    assert "  processes agent ended, sandbox ended\n" in said
    [status] = runner.json("status", done.run_id)
    assert [phase["name"] for phase in status["phases"] if phase["of"] == "run"][-2:] == [
        "running",
        "ending",
    ]


def test_of_a_run_that_is_over(runner: Shell, done: Done) -> None:
    assert runner("wait", done.run_id).stdout == f"{done.run_id}  done: the agent ended the run\n"
    attached = runner("attach", done.run_id, "-n", "2").stdout.splitlines()
    assert [line[10:16] for line in attached[:2]] == ["score ", "done: "]
    assert attached[2:4] == ["", "done: the agent ended the run"]
    opened = runner("open", done.run_id)
    assert opened.stdout == f"runs/{done.run_id}/notebook.ipynb\n"
    assert "its sandbox has ended" in opened.stderr
    assert "is done already" in runner("cancel", done.run_id).stdout
    assert "is done" in runner("resume", done.run_id, status=2).stderr
    assert "has ended" in runner("exec", done.run_id, "--", "true", status=3).stderr
    near = runner("status", done.run_id[:-1] + "_", status=2).stderr
    assert f"did you mean {done.run_id}?" in near


def test_logs(runner: Shell, done: Done) -> None:
    steps = runner("logs", done.run_id).stdout
    assert "ZeroDivisionError: division by zero" in steps
    processes = runner("logs", done.run_id, "--processes").stdout
    assert "prepare  $ uv" in processes
    lines = runner.json("logs", done.run_id)
    assert {line["file"] for line in lines} == {"transcript", "journal"}
    assert lines[0]["type"] == "run"


def test_fetch(runner: Shell, done: Done) -> None:
    assert runner("fetch", done.run_id, "--to", "copies/all").stdout == "copies/all\n"
    whole = runner.place / "copies" / "all"
    assert (whole / "outputs" / "a.txt").read_text() == "made"
    assert "as it was written" in runner("verify", "all", "--runs", "copies").stdout
    again = runner("fetch", done.run_id, "--to", "copies/all", status=2).stderr
    assert "is there already" in again
    one = runner("fetch", done.run_id, "outputs/a.txt", "--to", "one").stdout
    assert one == "one/outputs/a.txt\n"
    wrong = runner("fetch", done.run_id, "a.txt", status=2).stderr
    assert "it has inputs, journal.jsonl, logs, notebook.ipynb, outputs" in wrong
    assert "-- cat a.txt" in wrong
    assert "inside of the record" in runner("fetch", done.run_id, "../x", status=2).stderr


def test_rebuild(runner: Shell, done: Done) -> None:
    notebook = done.path / "notebook.ipynb"
    before = notebook.read_bytes()
    notebook.write_text("{}")
    assert "notebook.ipynb" in runner("verify", done.run_id, status=3).stdout
    runner("rebuild", done.run_id)
    assert notebook.read_bytes() == before


def test_render_names_secrets_only(runner: Shell, done: Done) -> None:
    runner.env["CANARY_TOKEN"] = "the-canary"
    file = runner.experiment("rendered", end(), top="[sandbox]\nsecrets = ['CANARY_TOKEN']")
    before = sorted((runner.place / "runs").iterdir())
    said = runner("render", file).stdout
    assert "the-canary" not in said
    shown = json.loads(said)
    assert shown["secrets"] == ["CANARY_TOKEN"]
    assert [process["name"] for process in shown["processes"]] == ["sandbox", "agent"]
    assert shown["processes"][0]["secrets"] == ["CANARY_TOKEN"]
    assert any(pin.startswith("ipykernel==") for pin in shown["plan"]["packages"])
    assert sorted((runner.place / "runs").iterdir()) == before


def test_a_bound_and_what_raises_it(runner: Shell) -> None:
    file = runner.experiment("bounded", cell("x = 1"), cell("print(x + 1)"), end())
    first, *states, last = runner.json("submit", file, "--max-turns", "1", status=4)
    assert list(first) == ["event", "run_id", "notebook_url", "open", "record"]
    assert first["open"] == f"runner open {first['run_id']}"
    assert first["notebook_url"].startswith("http://127.0.0.1:")
    assert {event["event"] for event in states} == {"state"}
    assert [event["state"] for event in states][-3:] == ["running", "ending", "bound"]
    assert (last["event"], last["state"], last["exit_status"]) == ("end", "bound", 4)
    run_id = first["run_id"]
    assert runner("wait", run_id, status=4).stdout.startswith(f"{run_id}  bound: ")
    said = runner("resume", run_id, status=2).stderr
    assert "ended by a bound, which has to be raised" in said
    assert "--max-turns … above 1" in said
    *_, last = runner.json("resume", run_id, "--max-turns", "5")
    assert (last["state"], last["exit_status"], last["turns"]) == ("done", 0, 3)
    assert "  turns     3 of 5\n" in runner("status", run_id).stdout


def test_a_record_is_repeated(runner: Shell, done: Done) -> None:
    *_, last = runner.json("submit", f"runs/{done.run_id}")
    assert last["run_id"] != done.run_id
    assert last["score"] == {"score": 0.5}


class Live:
    """A run whose cell goes on until a file is there."""

    def __init__(self, runner: Shell, name: str) -> None:
        self.go_on = runner.top / f"{name}-goes-on"
        source = waiting(self.go_on, "print('begun')", "print('ended')")
        file = runner.experiment(name, cell(source), end())
        [launch] = runner.json("submit", file, "--detach")
        self.run_id: str = launch["run_id"]
        self.path = runner.place / launch["record"]

    def started(self) -> None:
        journal = self.path / "journal.jsonl"
        until(lambda: journal.exists() and "begun\\n" in journal.read_text(), "the cell runs")


@pytest.fixture(scope="module")
def live(runner: Shell) -> Live:
    return Live(runner, "live")


def test_open_waits_for_the_sandbox(runner: Shell, live: Live) -> None:
    [opened] = runner.json("open", live.run_id, "--print")
    assert "/runner/?ticket=" in opened["url"]
    live.started()
    assert runner("open", live.run_id, "--print").stdout.startswith("http://127.0.0.1:")
    assert runner("open", live.run_id).stdout != opened["url"]


def test_exec(runner: Shell, live: Live) -> None:
    live.started()
    did = runner("exec", live.run_id, "--", "echo out; echo err >&2; exit 7", status=7)
    assert (did.stdout, did.stderr) == ("out\n", "err\n")
    assert runner("exec", live.run_id, "printf", "%s|", "a b", "$HOME").stdout == "a b|$HOME|"
    runner("exec", live.run_id, "--", "kill -9 $$", status=137)
    did = runner("exec", "--json", live.run_id, "--", "echo", "--json", status=0)
    events = [json.loads(line) for line in did.stdout.splitlines()]
    assert events[0] == {"event": "output", "stream": "stdout", "text": "--json\n"}
    assert events[-1]["exit_status"] == 0


def test_shell(runner: Shell, live: Live) -> None:
    live.started()
    lines = "cd outputs\n\npwd\ncd /\nfalse\nls -d tmp\nif\necho '$?'\nexit 5\necho never\n"
    did = runner("shell", live.run_id, stdin=lines, status=5)
    assert did.stdout.splitlines()[0].endswith("/workspace/outputs")
    assert did.stdout.splitlines()[1:] == ["tmp", "$?"]
    assert "syntax error" in did.stderr
    assert runner("shell", live.run_id, stdin="cd /\nfalse\n", status=1).stdout == ""


def test_a_live_run_is_kept_from_harm(runner: Shell, live: Live) -> None:
    live.started()
    assert "goes on already" in runner("resume", live.run_id, status=2).stderr
    said = runner("delete", live.run_id, "--yes", status=2).stderr
    assert "goes on" in said
    assert f"runner cancel {live.run_id}" in said
    assert "nobody can be asked" in runner("delete", live.run_id, "--force", status=2).stderr
    runner("fetch", live.run_id, "--to", "copies/live")
    assert "as it was written" in runner("verify", "live", "--runs", "copies").stdout
    said = runner("status", live.run_id).stdout
    assert "  state     running" in said
    assert f"runner attach {live.run_id}" in said


def test_ctrl_c_leaves_the_run(runner: Shell, live: Live) -> None:
    live.started()
    follower = runner.begin("attach", live.run_id)
    assert follower.stdout is not None
    while "cell 1" not in (line := follower.stdout.readline()):
        assert line, "it follows"
    follower.send_signal(signal.SIGINT)
    _, notes = follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 130
    assert "no longer followed; the run goes on" in notes
    assert f"runner attach {live.run_id} " in notes
    assert f"runner cancel {live.run_id} " in notes
    assert runner.json("status", live.run_id)[0]["state"] == "running"


def test_a_killed_agent_is_told_of(runner: Shell, live: Live) -> None:
    live.started()
    follower = runner.begin("attach", live.run_id)
    handle = json.loads((runner.top / "state" / live.run_id / "handle.json").read_text())
    supervisor = psutil.Process(int(handle["agent"].partition("@")[0]))
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.kill()
    out, _ = follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 3
    assert "\ninterrupted: the agent's processes are gone" in out
    assert f"runner resume {live.run_id}" in out
    assert "interrupted" in runner("wait", live.run_id, status=3).stdout
    live.go_on.touch()
    resumed = runner("resume", live.run_id).stdout
    assert "\ndone: the agent ended the run\n" in resumed


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, runner: Shell, *words: str) -> None:
        self.seen = ""
        self.fd, far = pty.openpty()
        self.process = subprocess.Popen(
            [*RUNNER, *words],
            cwd=runner.place,
            env=runner.env | {"TERM": "xterm"},
            stdin=far,
            stdout=far,
            stderr=far,
        )
        os.close(far)

    def until(self, words: str) -> None:
        """Read until these words are there."""
        over = time.monotonic() + DEADLINE_S
        while words not in self.seen:
            assert time.monotonic() < over, f"{words!r} is not in {self.seen}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:  # Linux: the other end is closed
                    assert words in self.seen, self.seen

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def status(self) -> int:
        """Wait for its end."""
        status = self.process.wait(DEADLINE_S)
        os.close(self.fd)
        return status


def test_two_ctrl_c_on_a_terminal_cancel(runner: Shell) -> None:
    go_on = runner.top / "never"
    source = waiting(go_on, "open('outputs/early.txt', 'w').write('kept'); print('begun')")
    file = runner.experiment("stopped", cell(source), end())
    terminal = Terminal(runner, "submit", file)
    terminal.until("cell 1")
    terminal.until("running · turn 1 of 200")
    terminal.ctrl_c()
    terminal.until("no longer followed; the run goes on")
    terminal.ctrl_c()
    terminal.until("cancelling; what was made is kept")
    terminal.until("cancelled: cancelled by the user")
    terminal.until("goes on where it was")
    assert terminal.status() == 130
    [status] = runner.json("status")
    assert (status["state"], status["name"]) == ("cancelled", "stopped")
    assert [output["path"] for output in status["outputs"]] == ["early.txt"]
    assert "runner cancel" in terminal.seen
    delete = Terminal(runner, "delete", status["run_id"])
    delete.until("for good? [y/N]")
    delete.type("n\n")
    delete.until("nothing was deleted")
    assert delete.status() == 0
    assert runner.json("delete", status["run_id"], "--yes")[0]["deleted"]
    runner("status", status["run_id"], status=2)


def test_doctor(runner: Shell, done: Done) -> None:
    checks = {check["name"]: check for check in runner.json("doctor")}
    assert {"python", "settings", "git", "uv", "packages", "records", "state"} <= set(checks)
    orphan = runner.top / "state" / "orphan"
    orphan.mkdir()
    (orphan / "plan.json").write_text('{"agent": true}')
    runner.env["RUNNER_RUNS"] = "/proc/nowhere"
    try:
        said = runner("doctor", status=3).stdout
    finally:
        del runner.env["RUNNER_RUNS"]
        (orphan / "plan.json").unlink()
        orphan.rmdir()
    assert "problem  records: /proc/nowhere" in said
    assert "orphan: its record is gone" in said
    assert f"→ rm -r {orphan}" in said
