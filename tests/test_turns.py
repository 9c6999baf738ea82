"""Containers that are started at once and wait for one another; what each is told on its stdin."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner import locks
from runner.errors import InfrastructureError
from runner.pod import told, turns

STEP = """
import sys
from pathlib import Path
from runner.pod import turns
with turns.turn(sys.argv[1], Path(sys.argv[2])):
    print("at work", flush=True)
    sys.stdin.read()
"""


def step(name: str, place: Path, after: str = "") -> subprocess.Popen[str]:
    env = {**os.environ, told.STEP: name, **({turns.AFTER: after} if after else {})}
    return subprocess.Popen(
        [sys.executable, "-c", STEP, name, str(place)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_comes_after_the_other(tmp_path: Path) -> None:
    with step("clone", tmp_path, after="record") as second, step("record", tmp_path) as first:
        assert first.stdout and second.stdout
        assert first.stdout.readline() == "at work\n"
        turns.wait_begun("clone", lambda: False, tmp_path)
        assert locks.is_held(turns.lock("clone", tmp_path))
        assert not (tmp_path / "clone.done").exists()
        first.communicate()
        assert second.stdout.readline() == "at work\n"
        second.communicate()
    turns.wait("clone", turns=tmp_path)


def test_who_waits_leaves_when_the_agent_has_gone(tmp_path: Path) -> None:
    agent = tmp_path / "agent.lock"
    fd = locks.hold(agent)
    assert fd is not None
    gone = turns._Gone(agent)
    assert not gone()
    os.close(fd)
    assert gone()
    assert not turns._Gone(agent)(), "it may come yet"


def test_who_waits_is_told_of_one_that_was_killed(tmp_path: Path) -> None:
    with step("record", tmp_path) as first, step("clone", tmp_path, after="record") as second:
        assert first.stdout
        assert first.stdout.readline() == "at work\n"
        first.kill()
        _, words = second.communicate()
    assert "the container `record` ended before its work was done" in words
    with pytest.raises(InfrastructureError, match="`clone` ended before"):
        turns.wait("clone", turns=tmp_path)


def test_one_that_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BEGIN_S", 0.0)
    with pytest.raises(InfrastructureError, match="`record` was never started"):
        turns.wait("record", turns=tmp_path)
    turns.wait("record", lambda: True, tmp_path)  # who is told to leave waits for nobody


def test_elsewhere_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(told.STEP, raising=False)
    with turns.turn("clone", tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    told.take("clone", io.StringIO("nobody reads it"))


def test_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(told.STEP, "sandbox")
    monkeypatch.delenv("LAB_TOKEN", raising=False)
    line = told.message({"LAB_TOKEN": "ünï"}, {tmp_path / "token": "t0ken"}).decode()
    told.take("send", io.StringIO(line))  # another command in the same container
    assert "LAB_TOKEN" not in os.environ
    told.take("sandbox", io.StringIO(line))
    assert os.environ.pop("LAB_TOKEN") == "ünï"
    assert (tmp_path / "token").read_text() == "t0ken"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert json.loads(line)["files"] == {str(tmp_path / "token"): "t0ken"}


@pytest.mark.parametrize("heard", ["", '{"env": {'])
def test_a_client_that_was_killed_before_it_said_all(
    heard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(told.STEP, "sandbox")
    with pytest.raises(InfrastructureError, match="was told no secrets: the client"):
        told.take("sandbox", io.StringIO(heard))
