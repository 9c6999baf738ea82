"""The journal alone: pieces, torn ends, full disks."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from runner.masking import Mask
from runner.sandbox import journal as module
from runner.sandbox.journal import Journal
from runner.sandbox.operations import Lines


def open_journal(path: Path, values: tuple[str, ...] = ()) -> Journal:
    return Journal(path, "boot", Mask(values), lambda: None)


def in_loop(test: Callable[[Path], Any]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path / "journal.jsonl"))

    run.__name__ = test.__name__
    return run


def numbers(data: bytes) -> list[int]:
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["seq"] for line in data.splitlines()]


@in_loop
async def test_lines_are_read_by_number(path: Path) -> None:
    journal = open_journal(path)
    for n in range(10):
        journal.append("warning", text="x" * 100 * n)
        if n == 5:
            journal.write()
    assert numbers(journal.read(0, 1 << 20)) == list(range(1, 11))
    assert numbers(journal.read(3, 1 << 20, 7)) == [4, 5, 6, 7]
    assert numbers(journal.read(8, 1)) == [9], "at least one"
    assert numbers(journal.read(10, 1 << 20)) == numbers(journal.read(99, 10)) == []
    assert len(numbers(journal.read(0, 500))) < 5
    journal.close()
    assert numbers(path.read_bytes()) == list(range(1, 11))


@pytest.mark.parametrize("torn", [b'{"seq": 3', b'{"seq": 3}', b"\0" * 100, b"\0\n"])
def test_what_a_crash_left_in_part_is_dropped(tmp_path: Path, torn: bytes) -> None:
    async def test(path: Path) -> None:
        journal = open_journal(path)
        journal.append("warning", text="a")
        journal.append("warning", text="b")
        journal.close()
        with path.open("ab") as file:
            file.write(torn)
        journal = open_journal(path)
        assert [line["text"] for line in journal.replay()] == ["a", "b"]
        assert journal.append("warning", text="c")["seq"] == 3
        journal.close()
        assert numbers(path.read_bytes()) == [1, 2, 3]

    asyncio.run(test(tmp_path / "journal.jsonl"))


@in_loop
async def test_lines_reach_the_disk_by_themselves(path: Path) -> None:
    journal = open_journal(path)
    journal.append("warning", text="a")
    async with asyncio.timeout(10):
        while not path.read_bytes():
            await asyncio.sleep(0)
    journal.close()


@in_loop
async def test_a_full_disk_costs_no_line(path: Path) -> None:
    journal = open_journal(path)
    journal.append("warning", text="first")
    journal.write()
    real, room = os.write, 150

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, bytes(data)[:room])
        room -= written
        return written

    with mock.patch.object(module.os, "write", full):
        for n in range(5):
            journal.append("warning", text=str(n))
        journal.write()
        assert "No space left" in journal.failure
        assert not path.read_bytes().endswith(b"\n"), "a line in part"
        assert numbers(journal.read(0, 1 << 20)) == [1, 2, 3, 4, 5, 6]
        assert numbers(journal.read(3, 1 << 20)) == [4, 5, 6]
    journal.append("warning", text="after")
    journal.write()
    assert journal.failure == ""
    assert numbers(path.read_bytes()) == [1, 2, 3, 4, 5, 6, 7]
    journal.close()


@in_loop
async def test_on_a_full_disk_whoever_produces_lines_waits(path: Path) -> None:
    journal = open_journal(path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(module, "HOLD_AT_MOST", 10_000):
        with mock.patch.object(module.os, "write", full):
            journal.append("warning", text="x" * 20_000)
            waiting = asyncio.ensure_future(journal.pace())
            await asyncio.wait({waiting}, timeout=0.1)
            assert not waiting.done()
        journal.write()
        async with asyncio.timeout(10):
            await waiting
    journal.close()


@in_loop
async def test_secrets_are_masked(path: Path) -> None:
    journal = open_journal(path, ("a-secret",))
    line = journal.append("message", content={"text": ["an a-secret"], "a-secret": 1})
    assert line["content"] == {"text": ["an ***"], "***": 1}
    journal.close()
    assert b"a-secret" not in path.read_bytes()


def test_lines_of_an_operation() -> None:
    lines = Lines()
    assert (lines.last, list(lines.after(0))) == (0, [])
    for number in (3, 4, 5, 9, 11, 12):
        lines.add(number)
    assert lines.last == 12
    assert list(lines.after(0)) == [(3, 5), (9, 9), (11, 12)]
    assert list(lines.after(4)) == [(5, 5), (9, 9), (11, 12)]
    assert list(lines.after(9)) == [(11, 12)]
    assert list(lines.after(12)) == []
