"""A machine without power: of each file there is what was brought to the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.record import Record, rebuild
from runner.record.verify import verify

FILES = ("transcript.jsonl", "journal.jsonl")


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of each file that are on the disk."""
    sizes: dict[str, int] = {}
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        sizes[Path(f"/proc/self/fd/{fd}").readlink().name] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fsync", noted)
    return sizes


def test_the_transcript_speaks_of_no_journal_that_is_not_there(
    tmp_path: Path, on_disk: dict[str, int]
) -> None:
    record = Record.create(tmp_path, "x", {})
    for seq in (1, 2):
        record.add_journal([{"seq": seq, "time": "t", "boot": "b", "type": "warning", "text": "w"}])
        record.say("end", state="done", reason="r", journal=record.journal_mark())
    record.add_journal([{"seq": 3, "time": "t", "boot": "b", "type": "warning", "text": "w"}])
    for name in FILES:
        os.truncate(record.path / name, on_disk.get(name, 0))
    rebuild(record.path)
    report = verify(record.path)
    assert report.ok, report.findings
    assert (report.transcript_lines, report.journal_lines) == (3, 2)
