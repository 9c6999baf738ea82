"""What an untrusted sandbox may put in a file's place is not opened; values it had are kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.interrupts import Interrupts
from runner.masking import Mask
from runner.phases import read_phases
from runner.plain import open_plain
from runner.pod import agent
from runner.sandbox import files
from runner.sandbox.seen import remembered


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with open_plain(tmp_path / "file") as file:
        assert file.read() == b"abc"


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_nothing_else_is(tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "link":
        place.symlink_to("/proc/self/environ")
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(OSError, match="plain file|symbolic links"):
        open_plain(place)
    with pytest.raises(OSError, match="plain file|symbolic links"):
        read_phases(place)


def test_a_sandbox_s_logs_are_kept_and_what_stands_in_their_place_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "key-of-the-model")
    (tmp_path / "logs").mkdir()
    there = [tmp_path / name for name in ("sandbox.log", "install.log", "more.log", "large.log")]
    there[0].symlink_to("/proc/self/environ")
    os.mkfifo(there[1])
    there[2].write_text("what uv said\n")
    there[3].write_text("x" * 100)
    monkeypatch.setattr(agent, "LOGS", there)
    monkeypatch.setattr(agent, "LOG_BYTES", 50)
    agent._keep_logs(tmp_path)
    kept = {file.name: file.read_text() for file in (tmp_path / "logs").iterdir()}
    assert kept == {"more.log": "what uv said\n", "large.log": "x" * 50}


def test_values_are_found_in_the_bytes_of_a_file(tmp_path: Path) -> None:
    secret = "pässwörd-of-mine"
    (tmp_path / "file").write_text(f"<{secret}>\n", "utf-8")
    assert b"".join(files.read(tmp_path / "file", Mask([secret]))) == b"<***>\n"


def test_values_from_before_are_remembered(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    assert remembered(seen, ["one"]) == {"one"}
    assert remembered(seen, ["two"]) == {"one", "two"}
    assert seen.stat().st_mode & 0o777 == 0o600
    for spoilt in ("no JSON", "7", "[[]]"):
        seen.write_text(spoilt)
        assert "three" in remembered(seen, ["three"])


@pytest.fixture
def _ctrl_c_raises() -> Iterator[None]:
    """As in a terminal; what was started in the background may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_raises")
def test_ctrl_c_is_noted_with_its_time_or_raised() -> None:
    began = time.monotonic()
    with Interrupts() as interrupts:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert len(interrupts.times) == 2
        assert began <= interrupts.times[0] <= interrupts.times[1]
        with pytest.raises(KeyboardInterrupt), interrupts.raising():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert len(interrupts.times) == 3
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
