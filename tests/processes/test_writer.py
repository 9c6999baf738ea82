"""A record whose pod is cut off, and the pod that comes after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiny_runs import until

from runner.record import Record, writer

POD = """
import os, sys, time
from pathlib import Path
from runner.record import Record, writer
path, name = Path(sys.argv[1]), sys.argv[2]
writer.watch(path, name, lambda: os._exit(writer.LEFT))
lock = Record.open(path).take_lock(30)
record = Record.open(path, write=True)
record.say("state", state="running", reason=name)
print("writes", flush=True)
time.sleep(600)
"""


@contextmanager
def pod(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that the record is its own, and writes it once it may."""
    writer.claim(path, name)
    argv = [sys.executable, "-c", POD, str(path), name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def writes(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "writes\n"


def test_the_one_that_comes_after_is_let_in_and_the_other_one_leaves(tmp_path: Path) -> None:
    record = Record.create(tmp_path, "run-1", {"name": "x"})
    record.close()
    with pod(record.path, "first") as first:
        assert writes(first)
        with pod(record.path, "second") as second:
            assert writes(second)
            assert first.wait(10) == writer.LEFT
            assert second.poll() is None
    said = [line["reason"] for line, _ in _states(record.path)]
    assert said == ["first", "second"], "and nothing by the first one at its end"


def test_one_that_waits_for_the_lock_leaves_too(tmp_path: Path) -> None:
    record = Record.create(tmp_path, "run-1", {"name": "x"})
    record.close()
    lock = record.take_lock()
    try:
        with pod(record.path, "first") as first:
            until(lambda: writer.is_ours(record.path, "first"), "it has come", 10)
            writer.claim(record.path, "second")
            assert first.wait(30) == writer.LEFT
    finally:
        os.close(lock)


def test_a_store_that_is_away_makes_nobody_leave(tmp_path: Path) -> None:
    assert writer.is_ours(tmp_path / "nowhere", "first")


def _states(path: Path):
    from runner.record import read_lines

    return [item for item in read_lines(path / "transcript.jsonl") if item[0]["type"] == "state"]
