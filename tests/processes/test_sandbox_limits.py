"""What ends a sandbox, or something in it: memory, disk, idleness, the run's time."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from sandbox_process import sandbox, until

from runner.sandbox import memory, watch

MIB = 1 << 20


# -- memory --------------------------------------------------------------------------------


def test_who_uses_too_much_memory_is_killed_and_told(tmp_path: Path) -> None:
    with sandbox(tmp_path, memory_bytes=400 * MIB) as box, box.session() as session:
        hog = "held = b'x' * (600 << 20)\nimport time; time.sleep(60)"
        result = session.run(f"print('begun', flush=True)\n{hog}")
        assert result.state == "kernel_died"
        assert "out of memory" in result.reason
        assert "of the limit of 0.39 GiB" in result.reason
        assert "raise sandbox.memory" in result.reason
        assert session.restart().state == "ok"
        session.run("kept = 1")
        command = session.shell(f'{sys.executable} -c "{hog.replace(chr(10), ";")}"')
        assert (command.state, command.exit) == ("error", -9)
        assert "out of memory" in command.reason
        assert session.run("kept").text == "1", "the kernel was not the one that used most"


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the most that it took")
def test_much_that_is_printed_at_once_is_not_held_in_memory(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, box.session() as session:
        assert box.process is not None
        status = Path(f"/proc/{box.process.pid}/status")

        def most() -> int:
            (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
            return int(line.split()[1]) << 10

        before = most()
        result = session.run("for _ in range(200_000): print('x' * 999)", timeout_s=240)
        assert result.state == "ok"
        assert most() - before < 100 * MIB
        texts = [line["content"]["text"] for line in box.journal() if line["type"] == "message"
                 and line["msg_type"] == "stream"]  # fmt: skip
        assert sum(map(len, texts)) == 200_000_000
        assert max(map(len, texts)) < 10 * MIB


CGROUPS: dict[str, dict[str, str]] = {
    "v2": {
        "memory.max": "1073741824\n",
        "memory.current": "900000000\n",
        "memory.stat": "anon 500\ninactive_file 100000000\n",
    },
    "v1": {
        "memory/memory.limit_in_bytes": "1073741824\n",
        "memory/memory.usage_in_bytes": "900000000\n",
        "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000\n",
    },
}


def written(top: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(text)
    return top


@pytest.mark.parametrize("version", CGROUPS)
def test_the_limit_of_a_cgroup(tmp_path: Path, version: str) -> None:
    root = written(tmp_path, CGROUPS[version])
    assert memory.of_cgroup(root) == memory.Use(800_000_000, 1 << 30)


@pytest.mark.parametrize(
    "files",
    [
        {},
        CGROUPS["v2"] | {"memory.max": "max\n"},
        CGROUPS["v1"] | {"memory/memory.limit_in_bytes": "9223372036854771712\n"},
        CGROUPS["v2"] | {"memory.max": "nonsense"},
    ],
)
def test_a_cgroup_without_a_limit(tmp_path: Path, files: dict[str, str]) -> None:
    assert memory.of_cgroup(written(tmp_path, files)) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_by_the_machine_itself(tmp_path: Path, name: str, text: str) -> None:
    assert memory.oom_kills(tmp_path) == 0
    assert memory.oom_kills(written(tmp_path, {name: text})) == 2


@pytest.mark.parametrize(
    ("use", "seconds"),
    [
        (None, 0.5),
        (memory.Use(0, 64 << 30), 0.5),
        (memory.Use(60 << 30, 64 << 30), 0.1),
        (memory.Use(0, 4 << 30), 0.2375),
        (memory.Use(5 << 30, 4 << 30), 0.1),
    ],
)
def test_memory_is_looked_at_as_often_as_it_can_be_filled(
    use: memory.Use | None, seconds: float
) -> None:
    assert watch.pause_s(use) == pytest.approx(seconds)


def test_memory_of_processes() -> None:
    assert memory.resident([psutil.Process().pid])[psutil.Process().pid] > 10 * MIB
    assert memory.resident([2**22 + 1]) == {2**22 + 1: 0}


# -- disk ----------------------------------------------------------------------------------


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path) -> None:
    with sandbox(tmp_path, disk_bytes=100 * MIB) as box, box.session() as session:
        fill = "open('{}', 'wb').write(b'x' * ({} << 20))"
        session.run(fill.format("some", 85))
        warnings = until(lambda: session.info()["warnings"], what="the warning at 80 %")
        assert "of its limit of 100 MiB: delete what is not needed" in warnings[0]
        running = session.run(
            fill.format("more", 12) + "\nimport time; time.sleep(60)", timeout_s=0
        )
        assert session.wait(running.op).state == "interrupted"
        refused = session.run("1")
        assert (refused.state, "no cell is run until files are deleted" in refused.reason) == (
            "error",
            True,
        )
        assert session.run("1").warnings[-1] == refused.reason
        assert session.shell("rm some more").state == "ok"
        until(lambda: session.run("1").state == "ok", what="cells after files were deleted")


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * MIB)
    one = watch.tree_size(tmp_path)
    assert MIB <= one < 2 * MIB
    (tmp_path / "second name").hardlink_to(tmp_path / "a" / "b" / "file")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert watch.tree_size(tmp_path, tmp_path / "none") < one + 64 * 1024


# -- idleness and the run's time -----------------------------------------------------------


def over(
    *,
    ready: float | None,
    active: float,
    busy: bool,
    now: float,
    kernel: str = "idle",
    unused: float | None = None,
    agent: bool = True,
) -> str:
    box = SimpleNamespace(
        ready_at=ready,
        active_at=active,
        busy=busy,
        kernel_state=kernel,
        gpus=SimpleNamespace(over_at=unused),
        gpus_unused="its GPU was not used",
        options=SimpleNamespace(timeout_s=1000.0, idle_timeout_s=100.0, agent=agent),
    )
    return watch.over(cast(Any, box), now)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ready": 0, "active": 0, "busy": False, "now": 99}, ""),
        ({"ready": 0, "active": 0, "busy": False, "now": 101}, "nobody used this sandbox"),
        ({"ready": 0, "active": 0, "busy": True, "now": 999}, ""),
        ({"ready": 0, "active": 0, "busy": True, "now": 1001}, "nobody used this sandbox"),
        ({"ready": 0, "active": 950, "busy": True, "now": 1001}, ""),
        ({"ready": 0, "active": 1299, "busy": True, "now": 1299}, ""),
        (
            {"ready": 0, "active": 1301, "busy": True, "now": 1301},
            "the run's time (1000 s) is over",
        ),
        ({"ready": None, "active": 0, "busy": False, "now": 101}, "nobody used this sandbox"),
        ({"ready": None, "active": 0, "busy": False, "now": 101, "kernel": "starting"}, ""),
        ({"ready": 0, "active": 300, "busy": True, "now": 300, "unused": 1}, ""),
        ({"ready": 0, "active": 302, "busy": True, "now": 302, "unused": 1}, "GPU was not used"),
        (
            {"ready": 0, "active": 2, "busy": True, "now": 2, "unused": 1, "agent": False},
            "GPU was not used",
        ),
    ],
)
def test_when_a_sandbox_ends(state: dict[str, Any], words: str) -> None:
    reason = over(**state)
    assert words in reason
    assert bool(words) == bool(reason)


def test_an_unused_sandbox_ends_by_itself(tmp_path: Path) -> None:
    with sandbox(tmp_path, idle_timeout_s=1.0) as box:
        assert box.wait(30) == 0
        assert box.processes() == []
        assert "nobody used this sandbox for 1 s" in box.journal()[-1]["text"]


def test_a_silent_cell_keeps_the_sandbox_until_the_runs_time_is_over(tmp_path: Path) -> None:
    with sandbox(tmp_path, idle_timeout_s=1.5, timeout_s=4.0) as box:
        session = box.session()
        ready = time.monotonic()
        op = session.run("import time; time.sleep(100)", timeout_s=0).op
        session.close()
        assert box.wait(30) == 0
        assert 3.0 < time.monotonic() - ready < 60.0
        end = next(line for line in box.journal() if line["type"] == "end" and line["op"] == op)
        assert end["state"] == "lost"


def test_output_keeps_a_sandbox(tmp_path: Path) -> None:
    with sandbox(tmp_path, idle_timeout_s=1.0) as box, box.session() as session:
        session.shell("for n in 1 2 3 4; do echo $n; sleep 0.5; done", timeout_s=0)
        began = time.monotonic()
        assert box.wait(30) == 0
        assert time.monotonic() - began > 2.0


def test_sigint_ends_it_too(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box:
        box.session().close()
        box.signal(signal.SIGINT)
        assert box.wait() == 0
