"""What is killed on `local`, and what becomes of the run."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import Lab, cell, end, pids, processes_of, until, waiting

from runner.errors import UsageError
from runner.record.verify import verify


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def counted(go: Path, name: str) -> str:
    """A cell that says each time it begins, and goes on when the test says so."""
    return waiting(go, f"open('{name}', 'a').write('x')", f"print('{name} is through')")


def test_a_killed_terminal_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    go = tmp_path / "go"
    file = lab.write([cell(waiting(go)), end()])
    code = (
        "import sys, time; from pathlib import Path; from runner import submission\n"
        "from runner.settings import load_settings\n"
        f"s = load_settings(runs={lab.settings.runs!r}, state_dir=Path({str(tmp_path)!r}, 'state'))\n"
        f"h = submission.start(submission.prepare(Path({str(file)!r}), s), s)\n"
        "print(h.run_id, flush=True); time.sleep(600)"
    )
    main, end_of_shell = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=end_of_shell,
        stdout=end_of_shell,
        stderr=end_of_shell,
        start_new_session=True,
    )
    os.close(end_of_shell)
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(main, 1024)
    os.close(main)  # hangs up
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    handle = lab.backend.attach(said.decode().strip())
    run = lab.adopt(handle)
    run.state("running")
    go.touch()
    assert run.over().state == "done"


def test_a_killed_worker_and_a_killed_server(lab: Lab, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    daemon = "import subprocess; subprocess.Popen(['sleep', '77123'], start_new_session=True)"
    run = lab.submit(
        [
            cell(counted(first, "one")),
            cell(f"{daemon}\nvariable = 1", expect="one is through"),
            cell(counted(second, "two")),
            cell("print('variable' in globals())", expect="(?i)lost|sandbox"),
            end(expect="False"),
        ]
    )
    workspace = run.root / "workspace"
    until((workspace / "one").exists, "the first cell runs")
    before = run.worker
    os.kill(before, signal.SIGKILL)
    until(lambda: run.worker != before, "another worker")
    first.touch()
    until((workspace / "two").exists, "the second cell runs")
    os.kill(run.server, signal.SIGKILL)
    status = run.over()
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    assert (workspace / "one").read_text() == "x"
    assert (workspace / "two").read_text() == "x"
    reasons = [line["reason"] for line in run.lines("attempt")]
    assert reasons[0] == "started"
    assert "was killed by signal SIGKILL; it was started again" in reasons[1]
    assert len(reasons) == 2
    assert verify(run.path, None).ok
    assert pids("77123") == []


def test_both_killed_then_resumed_here_and_then_elsewhere(lab: Lab, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    keep = "open('outputs/kept.txt', 'w').write('k')\nvariable = 1"
    run = lab.submit(
        [
            cell(counted(first, "one")),
            cell(keep, expect="one is through"),
            cell(counted(second, "two")),
            cell(
                "print('variable' in globals(), *(open(f).read() for f in ('outputs/kept.txt', 'in.txt')))"
            ),
            end(expect="False k given"),
        ],
        '[sandbox]\nlocal_files = ["in.txt"]\n',
        files={"in.txt": "given"},
    )
    workspace = run.root / "workspace"
    until((workspace / "one").exists, "the first cell runs")
    run.kill_agent()
    status = run.status
    assert (status.state, status.exit_status, status.sandbox_alive) == ("interrupted", None, True)
    assert f"`runner resume {run.run_id}` goes on" in status.reason
    run.resume(agent__max_turns=50)
    until(lambda: len(run.lines("attempt")) == 2, "it goes on")
    assert run.plan.experiment.agent.max_turns == 50
    first.touch()
    until((workspace / "two").exists, "the second cell runs")
    assert (workspace / "one").read_text() == "x"
    until((run.path / "outputs" / "kept.txt").exists, "the output is pulled")
    run.kill_agent()
    os.killpg(run.init, signal.SIGKILL)
    until(lambda: not run.status.sandbox_alive, "the sandbox is gone")
    assert "its sandbox has ended" in run.status.reason
    until(lambda: not list(processes_of(run.root)), "the kernel leaves")
    sockets = json.loads((run.root / "server" / "options.json").read_text())["runtime"]
    shutil.rmtree(sockets)  # nobody will know of them
    shutil.rmtree(run.root)  # as on another machine
    run.resume()
    status = run.over()
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    assert status.run.attempts == 3
    assert len(status.run.sandboxes) == 3
    lost = next(text for text in run.results() if "two" not in text and "lost" in text.lower())
    assert lost
    assert not (workspace / "two").exists()  # not run again
    sources = [line["source"] for line in run.journal() if line["type"] == "cell"]
    assert sum("'one'" in source for source in sources) == 1
    assert verify(run.path, None).ok


def test_both_killed_and_nobody_comes(lab: Lab) -> None:
    source = "import subprocess\nsubprocess.Popen(['setsid', 'sleep', '77124'])\nwhile True: pass"
    toml = "[sandbox]\ntimeout = 3\nidle_timeout = 2\n"
    run = lab.submit([cell(source, timeout=600), end()], toml)
    until(lambda: pids("77124"), "the cell runs")
    run.kill_agent()
    assert run.status.sandbox_alive
    status = run.over(30)
    assert status.state == "interrupted"
    until(lambda: not list(processes_of(run.root)) and not pids("77124"), "nothing is left", 5)
    assert not (run.root / "venv").exists()


def test_a_killed_init_loses_nothing(lab: Lab, tmp_path: Path) -> None:
    go, never = tmp_path / "go", tmp_path / "never"
    run = lab.submit([cell(waiting(go)), cell(counted(never, "two")), end()])
    run.state("running")
    os.kill(run.init, signal.SIGKILL)
    go.touch()
    until((run.root / "workspace" / "two").exists, "it goes on")
    assert run.status.sandbox_alive
    runtime = Path(json.loads((run.root / "server" / "options.json").read_text())["runtime"])
    assert runtime.is_dir()
    lab.backend.stop(run.handle, 30.0)
    status = run.over()
    assert (status.state, status.exit_status) == ("cancelled", 130)
    assert not list(processes_of(run.root))
    assert not (run.root / "venv").exists()
    assert not runtime.exists()


def test_an_agent_that_crashes_again_and_again(lab: Lab, tmp_path: Path) -> None:
    run = lab.submit([cell(waiting(tmp_path / "never")), end()], "[sandbox]\nidle_timeout = 600\n")
    run.state("running")
    for attempt in range(1, 5):
        until(lambda n=attempt: len(run.lines("attempt")) == n, f"attempt {attempt}")
        os.kill(run.worker, signal.SIGKILL)
    status = run.agent_over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "was killed by signal SIGKILL, the last of 4 times" in status.reason
    assert status.sandbox_alive
    lab.backend.stop(run.handle, 1.0)
    assert not run.status.sandbox_alive


def test_sigterm_interrupts_and_the_run_can_be_resumed(lab: Lab, tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = lab.submit([cell(counted(go, "one")), end(expect="one is through")])
    until((run.root / "workspace" / "one").exists, "the cell runs")
    os.kill(run.supervisor, signal.SIGTERM)
    status = run.agent_over()
    assert (status.state, status.exit_status) == ("interrupted", 143)
    assert status.sandbox_alive
    run.resume()
    go.touch()
    assert run.over().state == "done"
    assert (run.root / "workspace" / "one").read_text() == "x"


def test_a_sandbox_that_is_gone_ends_the_run_at_once(lab: Lab, tmp_path: Path) -> None:
    source = waiting(tmp_path / "never", "open('outputs/kept.txt', 'w').write('k')")
    run = lab.submit([cell(source), end()])
    until((run.path / "outputs" / "kept.txt").exists, "the output is pulled")
    os.killpg(run.init, signal.SIGKILL)
    began = time.monotonic()
    status = run.agent_over()
    assert time.monotonic() - began < 40  # not after every deadline of its connections
    assert (status.state, status.exit_status) == ("failed", 3)
    assert status.reason.startswith("the sandbox ended")
    assert "not everything was collected: the sandbox is gone" in status.reason
    assert verify(run.path, None).ok


def test_a_sandbox_alone_that_runs_is_not_resumed(lab: Lab) -> None:
    run = lab.submit(agent=False)
    with pytest.raises(UsageError, match="runs, and it has no agent"):
        run.resume()
    assert run.status.sandbox_alive
