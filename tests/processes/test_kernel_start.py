"""A kernel that starts is asked until it answers, over other connections if it must be."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox import kernel
from runner.sandbox.kernel import Kernel

MAIN = Path(kernel.__file__).with_name("kernel_main.py")
ENTRY = [sys.executable, str(MAIN), "-f", "{connection_file}"]


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="rk-", dir="/tmp"
    ) as made:  # paths of sockets are short
        yield Path(made)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Those that are made, each for too short a time for a kernel to start."""
    made: list[object] = []
    connect = Kernel._connect

    def counting(self: Kernel, *given: object) -> None:
        made.append(given)
        connect(self, *given)

    monkeypatch.setattr(Kernel, "_connect", counting)
    monkeypatch.setattr(kernel, "CONNECTION_S", 0.02)
    yield made


def started(argv: list[str], runtime: Path, source: str = "") -> tuple[bool, str]:
    """Whether a kernel started, and why it is dead; `source` is run in it."""

    async def pace() -> None: ...

    async def start() -> tuple[bool, str]:
        made = Kernel(
            argv, runtime, runtime / "log", runtime, os.environ, lambda *_: None, str, pace
        )
        try:
            there = await made.start()
            reason = made.reason
            if there:
                assert (await made.execute(source, lambda _: None)).status == "ok"
            return there, reason
        finally:
            await made.stop()

    return asyncio.run(start())


def test_a_kernel_that_does_not_answer_is_asked_over_another_connection(
    runtime: Path, connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Kernel._connect

    def longer_each_time(self: Kernel, *given: object) -> None:
        monkeypatch.setattr(kernel, "CONNECTION_S", 2 * kernel.CONNECTION_S)
        connect(self, *given)

    monkeypatch.setattr(Kernel, "_connect", longer_each_time)
    assert started(ENTRY, runtime, "1 + 1") == (True, "")
    assert len(connections) > 1


def test_a_kernel_that_ends_meanwhile_is_not_waited_for(
    runtime: Path, connections: list[object]
) -> None:
    ends = [sys.executable, "-c", "import time; time.sleep(1); print('no'); raise SystemExit(3)"]
    there, reason = started(ends, runtime)
    assert not there
    assert "ended by itself with exit status 3" in reason
    assert len(connections) > 1


def test_a_kernel_keeps_no_history_on_disk_and_needs_no_thread_for_subshells(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(runtime / "ipython"))
    source = """
import threading
shell = get_ipython()
assert shell.history_manager.input_hist_raw[-1].lstrip().startswith("import threading")
assert not [thread for thread in threading.enumerate() if "channel" in thread.name.lower()]
"""
    assert started(ENTRY, runtime, source) == (True, "")
    assert not list(runtime.rglob("history.sqlite"))
