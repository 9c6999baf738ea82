from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner import locks
from runner.errors import UsageError
from runner.pod import retain

DAY_S = 86400


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(retain, "RECORDS", tmp_path)
    return tmp_path


def record(claim: Path, name: str, days_ago: float) -> Path:
    path = claim / name
    (path / "outputs").mkdir(parents=True)
    for file in ("transcript.jsonl", ".lock", "outputs/a.txt"):
        (path / file).write_text("x")
    then = time.time() - days_ago * DAY_S
    for thing in (*path.rglob("*"), path):
        os.utime(thing, (then, then))
    return path


def test_only_what_nothing_was_written_to_goes(
    claim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, young = record(claim, "old-run", 31), record(claim, "young-run", 29)
    written = record(claim, "written-run", 400)
    (written / "outputs" / "a.txt").write_text("again")
    assert retain.main(["30"]) == 0
    assert not old.exists()
    assert (young / "outputs" / "a.txt").exists()
    assert (written / "transcript.jsonl").exists()
    assert capsys.readouterr().out == "old-run: removed\n2 kept\n"
    assert sorted(path.name for path in claim.iterdir()) == ["written-run", "young-run"]


def test_what_is_no_record_stays(claim: Path) -> None:
    (claim / "lost+found").mkdir()
    (claim / "data-set").mkdir()
    (claim / "README").write_text("not ours")
    elsewhere = record(claim.parent / f"{claim.name}-elsewhere", "far", 99)
    (claim / "link").symlink_to(elsewhere)
    for thing in claim.iterdir():
        os.utime(thing, (0, 0), follow_symlinks=False)
    assert retain.main(["1"]) == 0
    assert sorted(path.name for path in claim.iterdir()) == [
        "README",
        "data-set",
        "link",
        "lost+found",
    ]
    assert (elsewhere / "transcript.jsonl").exists()


def test_a_run_that_somebody_drives_stays(claim: Path) -> None:
    path = record(claim, "driven", 99)
    fd = locks.hold(path / ".lock")
    assert fd is not None
    os.utime(path / ".lock", (0, 0))
    try:
        assert retain.main(["1"]) == 0
        assert path.exists()
    finally:
        os.close(fd)


def test_what_a_killed_pod_left_is_removed(claim: Path) -> None:
    left = record(claim, f"{retain.REMOVED}half", 0)
    assert retain.main(["30"]) == 0
    assert not left.exists()


@pytest.mark.parametrize("arguments", [[], ["0"], ["-1"], ["soon"], ["1", "2"]])
def test_days_are_asked_for(claim: Path, arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="number of days"):
        retain.main(arguments)


def test_a_claim_that_is_not_mounted_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retain, "RECORDS", tmp_path / "none")
    with pytest.raises(UsageError, match="mount the claim"):
        retain.main(["1"])


def test_what_cannot_be_removed_is_told_and_the_rest_goes(
    claim: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(claim, "first", 9)
    second = record(claim, "second", 9)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == "first":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert retain.main(["1"]) == 1
    assert not second.exists()
    assert "first: cannot be removed: [Errno 13] Permission denied" in capsys.readouterr().out
