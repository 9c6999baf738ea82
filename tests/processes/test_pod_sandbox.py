"""The sandbox container: what its server is told, how long it may run, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agent_parts import make_plan
from sandbox_process import until

from runner import locks
from runner.plan import PlannedImages, RunPlan
from runner.pod import sandbox, spent
from runner.session import Endpoint, Session

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def planned(**table: object) -> RunPlan:
    images = PlannedImages(sandbox="base", agent="agent", python=sys.executable)
    return make_plan(sandbox=table, images=images)


def line(seq: int, boot: str, at_s: float, type: str = "message", **fields: str) -> str:
    time = (BEGIN + timedelta(seconds=at_s)).isoformat()
    return json.dumps({"seq": seq, "time": time, "boot": boot, "type": type, **fields}) + "\n"


def ready(seq: int, boot: str, at_s: float) -> str:
    return line(seq, boot, at_s, "kernel", event="started")


# -- how much time is left -----------------------------------------------------------------


def test_time_counts_from_the_first_readiness_in_this_pod(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    assert spent.left_s(100, tmp_path, BEGIN) == 100
    assert spent.left_s(100, tmp_path, BEGIN + timedelta(seconds=30)) == 100, "never ready so far"
    journal.write_text(line(1, "a", 5, "boot") + ready(2, "a", 10) + ready(3, "b", 40) + '{"torn')
    assert spent.left_s(100, tmp_path, BEGIN + timedelta(seconds=50)) == 60


def test_time_of_earlier_pods_counts_too(tmp_path: Path) -> None:
    """A pod that resumes begins with the record's journal."""
    journal = tmp_path / "journal.jsonl"
    earlier = [line(1, "a", 0, "boot"), ready(2, "a", 10), line(3, "a", 30)]
    earlier += [line(4, "b", 100, "boot"), ready(5, "b", 110), line(6, "b", 115)]
    journal.write_text("".join(earlier))
    assert spent.left_s(100, tmp_path, BEGIN + timedelta(seconds=1000)) == 75
    with journal.open("a") as file:
        file.write(line(7, "c", 1000, "boot") + ready(8, "c", 1010))
    assert spent.left_s(100, tmp_path, BEGIN + timedelta(seconds=1020)) == 65


# -- what the server is told ---------------------------------------------------------------


def told(plan: RunPlan, top: Path) -> sandbox.Options:
    for name in ("workspace", "state"):
        (top / name).mkdir(exist_ok=True)
    (top / "token").write_text("t")
    return sandbox.sandbox_options(
        plan,
        workspace=top / "workspace",
        state=top / "state",
        venv=top / "venv",
        token=top / "token",
        port=0,
    )


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DISK_BYTES", "1000")
    plan = planned(
        timeout="1h", volumes=[{"name": "w", "path": "/data"}, {"name": "v", "path": "v"}]
    )
    options = told(plan, tmp_path)
    options.runtime.rmdir()
    assert options.python == Path(sys.executable)
    assert options.readable == (Path("/data"),)
    assert (options.timeout_s, options.disk_bytes) == (3600, 1000)
    assert told(planned(disk="2Mi"), tmp_path).disk_bytes == 2 << 20
    noted = json.loads(options.environment.read_text())
    assert noted["python"] == plan.python
    assert any(pin.startswith("pydantic==") for pin in noted["packages"])


def test_the_kernel_runs_on_what_was_installed(tmp_path: Path) -> None:
    info = tmp_path / "venv/lib/python3.11/site-packages/Some_Thing-1.5.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "venv/bin").mkdir()
    (tmp_path / "venv/bin/python").touch()
    options = told(planned(), tmp_path)
    options.runtime.rmdir()
    assert options.python == tmp_path / "venv/bin/python"
    assert "some-thing==1.5" in json.loads(options.environment.read_text())["packages"]


# -- how it ends ---------------------------------------------------------------------------

SERVE = """
import signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from test_pod_sandbox import told
from runner.plan import RunPlan
from runner.pod import sandbox
top = Path(sys.argv[2])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
options = told(RunPlan.model_validate_json((top / "plan.json").read_bytes()), top)
options = options.model_copy(update={"port": int(sys.argv[3])})
agent = top / "agent.lock"
lock = agent if agent.exists() else None
sys.exit(sandbox.serve(options, top / "sandbox.log", int(sys.argv[4]), lock))
"""


@contextmanager
def serving(
    top: Path, port: int, restarts: int = 0, **table: object
) -> Iterator[subprocess.Popen[bytes]]:
    """The container's process, as `main` has it after its checks."""
    (top / "plan.json").write_text(planned(**table).model_dump_json())
    environ = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    here = ":".join(map(str, Path(__file__).parents[:2]))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, here, str(top), str(port), str(restarts)], env=environ
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def server_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def test_a_crash_of_a_sidecar_ends_it_and_of_a_sandbox_alone_does_not(
    tmp_path: Path, free_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "sandbox.log"
    with serving(tmp_path, free_port, restarts=1) as process:
        session = Session(Endpoint(f"http://127.0.0.1:{free_port}", "t"))
        first = session.connect(60)["boot"]
        assert session.run("print(1)").state == "ok"
        os.kill(server_of(process), signal.SIGKILL)
        until(lambda: log.read_text().count("server started") == 2, 60)
        assert session.connect(60)["boot"] != first
        # The last one that it may have.
        os.kill(server_of(process), signal.SIGKILL)
        assert process.wait(20) == 128 + signal.SIGKILL
        session.close()
    words = log.read_text()
    assert words.count("the sandbox server ended with status -9") == 2
    assert " ok [1] after " in words
    assert "print(1)" not in words
    assert words in capfd.readouterr().out, "the container's log has the same"


def test_sigterm_ends_it_at_once(tmp_path: Path, free_port: int) -> None:
    with serving(tmp_path, free_port) as process:
        session = Session(Endpoint(f"http://127.0.0.1:{free_port}", "t"))
        session.connect(60)
        session.run("import time; time.sleep(60)", timeout_s=0.1)
        begun = datetime.now(UTC)
        process.terminate()
        assert process.wait(20) == sandbox.TOLD
        assert (datetime.now(UTC) - begun).total_seconds() < sandbox.GRACE_S
        session.close()
    ends = (tmp_path / "state/journal.jsonl").read_text()
    assert '"state":"lost"' in ends, "the journal has been written to its end"


def test_a_sidecar_leaves_with_its_agent_and_not_before_it_came(
    tmp_path: Path, free_port: int
) -> None:
    agent = tmp_path / "agent.lock"
    agent.touch()
    with serving(tmp_path, free_port) as process:
        session = Session(Endpoint(f"http://127.0.0.1:{free_port}", "t"))
        session.connect(60)
        held = locks.hold(agent, read_only=True)
        assert held is not None
        assert session.run("print(1)").state == "ok"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5 * sandbox.LOOK_S)
        os.close(held)
        assert process.wait(20) == sandbox.TOLD
        session.close()


def test_one_that_nobody_uses_ends_by_itself(tmp_path: Path, free_port: int) -> None:
    with serving(tmp_path, free_port, restarts=1, idle_timeout="1s") as process:
        assert process.wait(60) == 0
    assert "nobody used this sandbox" in (tmp_path / "sandbox.log").read_text()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
