"""Journal and outputs out of a sandbox, scores, and how much time a run has used."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tiny_runs import until

from runner.agent.puller import MOST_FILES, Puller
from runner.agent.scoring import score
from runner.backends.local import environment
from runner.errors import InfrastructureError, OperationError, RunnerError, SandboxUnreachable
from runner.record import Record
from runner.record.times import spent_s
from runner.record.verify import verify
from runner.session import Session

SECRET = b"a-secret-value"


class Outputs(Session):
    """A session whose sandbox is a folder here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.away, self.torn = folder, False, ""
        self.lines: list[dict[str, Any]] = []

    def journal(self, after: int, wait_s: float = 0.0) -> list[dict[str, Any]]:
        if self.away:
            raise SandboxUnreachable("away")
        return self.lines[after : after + 2]

    def tree(self, path: str = ".", *, recursive: bool = False) -> list[dict[str, Any]]:
        if self.away:
            raise SandboxUnreachable("away")
        if not self.folder.is_dir():
            raise OperationError(f"there is no directory {path}")
        found = []
        for file in sorted(self.folder.rglob("*")):
            info = file.lstat()
            kind = "link" if file.is_symlink() else "directory" if file.is_dir() else "file"
            name = str(file.relative_to(self.folder))
            found.append(
                {"path": name, "type": kind, "bytes": info.st_size, "mtime_ns": info.st_mtime_ns}
            )
        return found

    def fetch_whole(self, path: str, take: Callable[[Iterator[bytes], bool], Any]) -> Any:
        if self.torn and path.endswith(self.torn):
            (self.folder / self.torn).unlink()
            raise OperationError("it is gone")
        data = (self.folder.parent / path).read_bytes()
        return take(iter([data]), SECRET in data)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.create(tmp_path / "runs", "tiny-1", {"name": "tiny"})


@pytest.fixture
def session(tmp_path: Path) -> Outputs:
    (tmp_path / "outputs").mkdir()
    return Outputs(tmp_path / "outputs")


ODD = ["a b", "-rf", "new\nline", "ünï", "'\"$(x)", "deep/er/file", "x" * 200, os.fsdecode(b"\xff")]


def test_odd_names_are_kept(record: Record, session: Outputs) -> None:
    for number, name in enumerate(ODD):
        (session.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (session.folder / name).write_text(str(number))
    assert Puller(session, record).finish() == []
    for number, name in enumerate(ODD):
        assert (record.path / "outputs" / name).read_text() == str(number)
    assert len(record.state().outputs) == len(ODD)
    record.close()
    assert verify(record.path, None).ok


def test_what_cannot_be_kept_is_told_and_stops_nothing(record: Record, session: Outputs) -> None:
    (session.folder / "link").symlink_to("/etc/passwd")
    (session.folder / "gone").write_text("g")
    (session.folder / "kept").write_text("k")
    session.torn = "gone"
    troubles = Puller(session, record).finish()
    assert troubles == [
        "outputs/gone: it is gone",
        "outputs/link: is a symlink, and links are not collected",
    ]
    assert [file.name for file in (record.path / "outputs").iterdir()] == ["kept"]


def test_a_file_with_a_secret_is_set_aside_as_it_is(record: Record, session: Outputs) -> None:
    file = session.folder / "deep" / "model.bin"
    file.parent.mkdir()
    puller = Puller(session, record)
    for data in (b"clean", b"\xff\x00" + SECRET, b"clean again"):
        file.write_bytes(data)
        assert puller.finish() == []
        holds = SECRET in data
        (item,) = record.state().outputs
        assert item.get("withheld", False) == holds
        kept, other = ("withheld", "outputs") if holds else ("outputs", "withheld")
        assert (record.path / kept / "deep/model.bin").read_bytes() == data
        assert not (record.path / other / "deep/model.bin").exists()
        assert verify(record.path, None).ok


def test_a_copy_without_what_was_set_aside_is_whole(record: Record, session: Outputs) -> None:
    (session.folder / "leak").write_bytes(SECRET)
    assert Puller(session, record).finish() == []
    (record.path / "withheld" / "leak").write_bytes(b"altered")
    assert not verify(record.path, None).ok
    (record.path / "withheld" / "leak").unlink()
    report = verify(record.path, None)
    assert report.ok
    assert "not in this copy" in report.outputs[0].what


def test_a_file_that_becomes_a_directory(record: Record, session: Outputs) -> None:
    place = session.folder / "thing"
    place.write_text("file")
    puller = Puller(session, record)
    assert puller.finish() == []
    place.unlink()
    place.mkdir()
    (place / "inner").write_text("i")
    (session.folder / "other").write_text("o")
    (trouble,) = puller.finish()
    assert trouble.startswith("outputs/thing/inner: ")
    assert (record.path / "outputs" / "thing").read_text() == "file"
    assert (record.path / "outputs" / "other").read_text() == "o"


def test_changes_and_renames_while_the_run_goes_on(record: Record, session: Outputs) -> None:
    puller = Puller(session, record)
    puller.start()
    (session.folder / "a").write_text("1")
    until((record.path / "outputs" / "a").exists, "a file at rest is pulled", 10)
    session.away = True
    session.lines = [{"seq": n, "type": "warning", "text": "w"} for n in range(1, 6)]
    (session.folder / "a").rename(session.folder / "b")
    session.away = False
    until((record.path / "outputs" / "b").exists, "it comes back", 10)
    (session.folder / "b").write_text("2")
    assert puller.finish() == []
    assert (record.path / "outputs" / "b").read_text() == "2"
    assert record.journal.lines == 5
    said = len(record.state().outputs)
    lines = record.transcript.lines
    assert Puller(session, record).finish() == []  # a resumed agent: nothing is news
    assert (said, record.transcript.lines) == (2, lines)


@pytest.mark.parametrize("closed", [False, True])
def test_the_end_does_not_wait_for_lines_that_may_not_come(
    record: Record, session: Outputs, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    asked, let_go, told = Event(), Event(), Event()

    def journal(after: int, wait_s: float = 0.0) -> list[dict[str, Any]]:
        if wait_s:
            asked.set()
            assert let_go.wait(60)
            told.set()
            if closed:
                raise RuntimeError("the client has been closed")
            return [line]
        return []

    line = {"seq": 1, "time": "2026-01-01T00:00:00.000Z", "boot": "b", "type": "boot"}
    monkeypatch.setattr(session, "journal", journal)
    puller = Puller(session, record)
    puller.start()
    assert asked.wait(60)
    assert puller.finish() == []
    assert not told.is_set()
    let_go.set()
    puller._lines.join(60)
    assert told.is_set()
    assert record.journal.lines == 0, "what comes after the end is not kept"


def test_no_outputs_and_too_many(record: Record, session: Outputs, tmp_path: Path) -> None:
    session.folder.rmdir()
    assert Puller(session, record).finish() == ["outputs/.: there is no directory outputs"]
    session.tree = lambda *_, **__: [  # type: ignore[method-assign]
        {"path": f"{n}", "type": "directory", "bytes": 0, "mtime_ns": 0} for n in range(MOST_FILES)
    ]
    assert "more than 10000 files" in Puller(session, record).finish()[0]


def test_a_full_disk_ends_the_run(
    record: Record, session: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise InfrastructureError("no space left") from OSError(errno.ENOSPC, "no space left")

    (session.folder / "a").write_text("a")
    told: list[RunnerError] = []
    puller = Puller(session, record, told.append)
    monkeypatch.setattr(record, "add_output", full)
    puller.start()
    until(lambda: told, "it is told", 10)
    assert told[0].message == "no space left"
    with pytest.raises(InfrastructureError, match="no space left"):
        puller.finish()


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("print('{\"a\": 1}')", {"score": {"a": 1}}),
        ("print('NaN')", "NaN is not in JSON"),
        ("print('[' * 100000)", "printed no JSON"),
        ("print('x' * 2000000)", "more than 1048576 bytes"),
        ("import sys; sys.exit('no file findings.json')", "status 1: no file findings.json"),
        ("import time; time.sleep(60)", "took longer than 2 s"),
        (
            "import subprocess; subprocess.Popen(['sleep', '77128']); print(5)",
            {"score": 5},
        ),
    ],
)
def test_scores(record: Record, script: str, outcome: Any) -> None:
    result = score(record, record.add_input(script.encode()), deadline_s=2.0)
    assert result == outcome if isinstance(outcome, dict) else outcome in result["error"]
    json.dumps(result, allow_nan=False)


def test_a_score_script_is_ended_with_the_run(record: Record) -> None:
    script, told = record.add_input(b"import time; time.sleep(60)"), iter([False, True, True])
    result = score(record, script, told_to_leave=lambda: next(told))
    assert "was told to end" in result["error"]


def at(second: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"time": f"2026-01-01T00:00:{second:02}.000Z", "type": kind, **more}


BEGUN = [
    at(0, "run"),
    at(1, "attempt"),
    at(5, "sandbox", boot="b"),
    at(5, "state", state="running"),
    at(15, "message"),
]
AGAIN = [at(20, "attempt"), at(21, "state", state="preparing")]


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([], 0),
        (BEGUN[:2], 0),
        (BEGUN, 10),
        ([*BEGUN, at(25, "end", state="done")], 20),
        ([*BEGUN, *AGAIN], 10),
        # The same sandbox went on meanwhile, and what ran in it.
        ([*BEGUN, *AGAIN, at(22, "sandbox", boot="b"), at(30, "message")], 25),
        # Another one: the time in between is nobody's.
        (
            [
                *BEGUN,
                *AGAIN,
                at(22, "sandbox", boot="c"),
                at(25, "state", state="running"),
                at(30, "message"),
            ],
            15,
        ),
        # The server was started again below the agent.
        ([*BEGUN, at(20, "sandbox", boot="c"), at(30, "message")], 25),
    ],
)
def test_time_spent(lines: list[dict[str, Any]], seconds: float) -> None:
    assert spent_s(lines) == seconds


def test_what_processes_get_of_the_environment() -> None:
    given = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "AWS_SECRET_ACCESS_KEY": "s",
        "UV_INDEX_LAB_PASSWORD": "s",
        "UV_DEFAULT_INDEX": "https://user:s@index.example/simple",
        "UV_LINK_MODE": "copy",
        "https_proxy": "http://user:s@proxy.example:3128",
        "NO_PROXY": "localhost",
        "SSH_AUTH_SOCK": "/run/agent",
        "GIT_SSL_CAINFO": "/ca.pem",
    }
    plain = {"PATH", "LC_ALL", "UV_LINK_MODE", "NO_PROXY", "GIT_SSL_CAINFO"}
    assert set(environment.for_sandbox(given)) == plain
    assert set(environment.for_agent(given)) == plain | {"https_proxy"}
    assert set(environment.for_fetching(given)) == given.keys() - {"AWS_SECRET_ACCESS_KEY"}
