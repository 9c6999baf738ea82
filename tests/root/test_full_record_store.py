"""A disk that is full when a run is submitted, and one that fills up while it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import Lab, cell, end, until, waiting

from runner.errors import InfrastructureError
from runner.record import check_chain, rebuild
from runner.record.verify import verify

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill the disk but for some bytes; returns the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return ballast


@pytest.mark.parametrize("full", ["runs", "state_dir"])
def test_submit_onto_a_full_disk_is_refused_and_leaves_nothing(
    disk: Path, tmp_path: Path, full: str
) -> None:
    lab = Lab(tmp_path, **{full: str(disk / "here") if full == "runs" else disk / "here"})
    prepared = lab.prepare([end()])
    fill(disk)
    with pytest.raises(InfrastructureError, match=r"(?i)no space left"):
        lab.start(prepared)
    assert [path for path in disk.rglob("*") if path.is_file()] == [disk / "ballast"]
    others = [tmp_path / "runs", tmp_path / "state"]
    assert [path for top in others for path in top.rglob("*") if path.is_file()] == []


def test_a_record_store_that_fills_up_loses_nothing(disk: Path, tmp_path: Path) -> None:
    lab = Lab(tmp_path, runs=str(disk / "runs"))
    go = tmp_path / "go"
    noise = "for n in range(30): print('x' * 100_000, flush=True)"
    run = lab.submit([cell(waiting(go, "print('began', flush=True)", noise)), end("x")])
    until(lambda: any("began" in str(line) for line in run.journal()), "the cell began")
    ballast = fill(disk, leave=200_000)
    go.touch()
    status = run.agent_over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "no space left" in status.reason
    for name in ("journal.jsonl", "transcript.jsonl"):
        assert check_chain(run.path / name).bad is None
    ballast.unlink()
    rebuild(run.path)
    assert verify(run.path).ok
    run.resume()
    assert run.over().state == "done"
    printed = sum(len(str(line["content"])) for line in run.journal() if "content" in line)
    assert printed > 30 * 100_000
    lab.close()
