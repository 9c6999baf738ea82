"""The record: chains, the fold of the transcript, outputs, verification, following."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import locks
from runner.errors import InfrastructureError, RecordError, RunnerError, RunNotFound
from runner.record import (
    ChainedLog,
    Record,
    check_chain,
    find,
    fold,
    follow,
    read_lines,
    rebuild,
    runs,
    to_json,
)
from runner.record.chain import NO_LINE
from runner.record.run import from_json
from runner.record.verify import verify

PLAN = {
    "name": "demo",
    "backend": "local",
    "author": "a@b",
    "experiment": {"agent": {"model": "m", "provider": "scripted"}},
    "repos": [{"url": "u", "ref": "main", "commit": "c" * 40}],
    "packages": ["pandas==2.2.0"],
    "versions": {"runner": "0.1.0"},
}


def journal_line(seq: int, type_: str, **keys: Any) -> dict[str, Any]:
    return {"seq": seq, "time": f"2026-01-01T00:00:{seq:02}.000Z", "type": type_, **keys}


JOURNAL = [
    journal_line(1, "cell", op="i", action="insert", cell="a", cell_type="code", source="x"),
    journal_line(2, "start", op="1", cell="a"),
    journal_line(
        3, "message", op="1", cell="a", msg_type="stream", content={"name": "stdout", "text": "hi"}
    ),
    journal_line(4, "end", op="1", cell="a", state="ok", reason="", execution_count=1),
]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record.create(tmp_path / "runs", "r1", PLAN)
    yield record
    record.close()


@pytest.fixture
def finished(record: Record) -> Record:
    """A record with a cell, an output and an end."""
    record.say("state", state="running", reason="")
    record.add_journal(JOURNAL)
    head = {"lines": record.journal.lines, "head": record.journal.head}
    record.say("tool_result", turn=1, tool="run_cell", content=[], journal=head)
    record.say("outputs", files=[record.add_output("plots/a.png", b"png")])
    record.say("end", state="done", reason="", bound=None, exit_status=0, journal=head)
    record.render()
    return record


# --- chains


def test_each_line_names_the_one_before(tmp_path: Path) -> None:
    log = ChainedLog(tmp_path / "log.jsonl")
    log.append({"a": 1}, sync=True)
    log.extend([{"b": "ü"}, {"prev": "mine", "c": 3}])
    log.close()
    lines = [line for line, _ in read_lines(log.path)]
    assert [next(iter(line)) for line in lines] == ["prev"] * 3
    assert lines[0]["prev"] == NO_LINE
    report = check_chain(log.path)
    assert (report.lines, report.head, report.bad, report.torn) == (3, log.head, None, False)
    again = ChainedLog(log.path)
    assert (again.lines, again.head) == (3, log.head)
    again.close()


def test_a_torn_line_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = ChainedLog(path)
    log.append({"a": 1})
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"prev":"half')
    assert check_chain(path).torn
    assert len(list(read_lines(path))) == 1
    log = ChainedLog(path)
    assert path.read_bytes() == whole
    assert (tmp_path / "log.jsonl.torn").read_bytes() == b'{"prev":"half\n'
    log.append({"b": 2})
    log.close()
    assert check_chain(path).bad is None


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.data())
def test_any_altered_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("chain") / "log.jsonl"
    log = ChainedLog(path)
    log.extend({"text": text} for text in texts)
    log.close()
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    report = check_chain(path)
    assert report.bad is not None or report.head != log.head
    if place < len(raw) - len(raw.splitlines()[-1]) - 200:
        assert report.bad is not None, "only a change of the last line needs the head"


def test_a_follower_reads_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":')
    [(line, offset)] = read_lines(path)
    with path.open("ab") as file:
        file.write(b"2}\n")
    assert line == {"a": 1}
    assert list(read_lines(path, offset)) == [({"b": 2}, offset + 8)]
    path.write_bytes(b"[1]\n")
    with pytest.raises(RecordError, match="at byte 0: expected a JSON object"):
        list(read_lines(path))


def test_secrets_are_masked_wherever_they_are(tmp_path: Path) -> None:
    secret = 'pa"ss\nwörd'
    log = ChainedLog(tmp_path / "log.jsonl", mask=lambda text: text.replace(secret, "***"))
    line = log.append({secret: [{"deep": (f"<{secret}>", 1)}], "n": None})
    log.close()
    assert line == {"***": [{"deep": ["<***>", 1]}], "n": None}
    assert [line for line, _ in read_lines(log.path)] == [{"prev": NO_LINE, **line}]
    assert "pa" not in log.path.read_text()


def check_full_disk(path: Path, fill: Any, empty: Any, words: str) -> None:
    with closing(ChainedLog(path)) as log:
        log.append({"a": 1})
        before = path.read_bytes()
        fill()
        try:
            for write in (log.append, lambda line: log.extend([{"c": 1}, line])):
                with pytest.raises(InfrastructureError, match=words):
                    write({"b": "x" * 5000})
                assert path.read_bytes() == before
        finally:
            empty()
        log.append({"d": 4})
    assert (check_chain(path).bad, check_chain(path).lines) == (None, 2)


def test_a_write_that_stops_half_way_leaves_a_whole_chain(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    check_full_disk(
        tmp_path / "log.jsonl",
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        "the limit on a file's size is reached; what was written before is whole",
    )


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_a_full_disk_leaves_a_whole_chain(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], check=True)
    try:
        ballast = tmp_path / "ballast"
        check_full_disk(
            tmp_path / "log.jsonl",
            lambda: ballast.write_bytes(b"x" * 12288),
            ballast.unlink,
            "no space left",
        )
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# --- run.json


def transcript(*lines: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"seq": n, "time": f"2026-01-01T00:00:{n:02}.500Z", "type": type_, **keys}
        for n, (type_, keys) in enumerate(lines, 1)
    ]


def said(cost: float | None, **usage: int) -> tuple[str, dict[str, Any]]:
    return "message", {"role": "assistant", "model": "m-2", "usage": usage, "cost_usd": cost}


def test_the_fold_of_a_run() -> None:
    sandbox = {
        "boot": "b1",
        "kernel": "python3",
        "python": "3.12.1",
        "packages": ["numpy==2.0"],
        "versions": {"ipykernel": "7"},
        "phases": [
            {
                "name": "clone",
                "started": "2026-01-01T00:00:02.600Z",
                "ended": "2026-01-01T00:00:03.100Z",
            }
        ],
    }
    lines = transcript(
        ("run", {"schema": 1, "run_id": "r", "plan": PLAN}),
        ("state", {"state": "preparing", "reason": ""}),
        ("attempt", {"attempt": 1, "host": "h", "pid": 1, "reason": "first"}),
        ("sandbox", sandbox),
        ("state", {"state": "running", "reason": ""}),
        ("message", {"role": "user", "content": []}),
        said(0.25, input_tokens=10, output_tokens=2),
        ("retry", {"reason": "529", "delay_s": 1}),
        said(None, input_tokens=5, cache_read_input_tokens=7),
        ("from a newer version", {}),
        ("outputs", {"files": [{"path": "b", "sha256": "1"}, {"path": "a", "sha256": "2"}]}),
        ("outputs", {"files": [{"path": "b", "sha256": "3"}]}),
        ("end", {"state": "bound", "reason": "turns", "bound": "turns", "exit_status": 4}),
        ("score", {"score": {"auc": 1.0}}),
    )
    run = fold(lines)
    assert (run.run_id, run.name, run.backend, run.provider) == ("r", "demo", "local", "scripted")
    assert (run.state, run.bound, run.exit_status, run.is_over) == ("bound", "turns", 4, True)
    assert (run.turns, run.retries, run.attempts, run.model) == (2, 1, 1, "m-2")
    assert run.tokens == {
        "input_tokens": 15,
        "output_tokens": 2,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 0,
    }
    assert (run.cost_usd, run.unpriced_turns) == (0.25, 1)
    assert [(p["of"], p["name"], p["seconds"]) for p in run.phases] == [
        ("sandbox", "clone", 0.5),
        ("run", "preparing", 3.0),
        ("run", "running", 8.0),
    ]
    assert run.versions == {"runner": "0.1.0", "ipykernel": "7"}
    assert (run.packages, run.python) == (["numpy==2.0"], "3.12.1")
    assert [(o["path"], o["sha256"], o["line"]) for o in run.outputs] == [
        ("a", "2", 11),
        ("b", "3", 12),
    ]
    assert (run.score, run.created, run.ended) == (
        {"auc": 1.0},
        "2026-01-01T00:00:01.500Z",
        "2026-01-01T00:00:13.500Z",
    )
    assert run.plan == PLAN
    assert from_json(to_json(run)) == run
    assert fold(lines[:5]).phases[-1]["seconds"] is None
    assert fold(lines[:9]).state == "running"


def test_a_resumed_run_goes_on_after_its_end() -> None:
    lines = transcript(
        ("run", {"schema": 1, "run_id": "r", "plan": PLAN}),
        ("state", {"state": "running"}),
        ("end", {"state": "interrupted", "exit_status": 3}),
        ("attempt", {"attempt": 2, "reason": "resume"}),
        ("state", {"state": "running"}),
        ("end", {"state": "done", "exit_status": 0}),
    )
    assert fold(lines[:3]).is_over
    resumed = fold(lines[:4])
    assert (resumed.state, resumed.reason, resumed.exit_status) == ("running", "resume", None)
    assert (fold(lines).state, fold(lines).exit_status) == ("done", 0)
    assert [p["name"] for p in fold(lines).phases] == ["running", "running"]


def test_a_cost_that_nobody_knows_is_none() -> None:
    assert fold(transcript(said(None))).cost_usd is None
    assert fold(transcript(said(None), said(0.5))).cost_usd == 0.5
    assert fold([]).cost_usd == 0.0
    with pytest.raises(RecordError, match="transcript line 1: is no line of type outputs"):
        fold(transcript(("outputs", {"files": [{}]})))


# --- the directory


def test_create_and_open(record: Record) -> None:
    assert Record.open(record.path).state().run_id == "r1"
    assert json.loads((record.path / "run.json").read_text())["state"] == "created"
    nbformat.validate(nbformat.read(record.path / "notebook.ipynb", as_version=4))
    with pytest.raises(RunnerError, match="is there already"):
        Record.create(record.path.parent, "r1", PLAN)
    with pytest.raises(RecordError, match="expected the record of a run"):
        Record.open(record.path / "outputs")
    with pytest.raises(RecordError, match="reading only"):
        Record.open(record.path).say("state", state="running")


def test_a_record_is_one_when_its_inputs_and_its_first_line_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(made: Record) -> None:
        assert runs(tmp_path) == [], "whoever is killed now leaves no record"
        assert made.add_input(b"x")

    made = Record.create(tmp_path, "r1", PLAN, fill=add)
    assert runs(tmp_path) == [made.path]
    assert len(list((made.path / "inputs").iterdir())) == 1

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "write", killed)  # the first line is not even begun, and
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nobody tidies up
        Record.create(tmp_path, "r3", PLAN)
    assert runs(tmp_path) == [made.path]
    assert not (tmp_path / "r3").exists()
    (left,) = tmp_path.glob(".*")
    held = locks.hold(left / ".lock")
    assert held is not None
    os.utime(left, (0, 0))
    Record.create(tmp_path, "r4", PLAN)
    assert left.is_dir(), "its maker lives, and takes its time"
    os.close(held)
    Record.create(tmp_path, "r5", PLAN)
    assert not left.exists(), "the next one tidies up"
    assert {path.name for path in runs(tmp_path)} == {"r1", "r4", "r5"}

    def fails(_: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Record.create(tmp_path, "r2", PLAN, fill=fails)
    assert not (tmp_path / "r2").exists()


def test_what_a_killed_maker_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """Whoever goes on with a sweep makes the same record at once."""
    (tmp_path / ".run-1.part").mkdir()
    (tmp_path / ".run-1.0123abcd.part").mkdir()
    Record.create(tmp_path, "run-1", {}).close()
    assert Record.open(tmp_path / "run-1").state().run_id == "run-1"


def test_of_two_who_make_a_record_at_once_one_is_told(tmp_path: Path) -> None:
    def other(_: Record) -> None:
        Record.create(tmp_path, "run-1", {"name": "other"}).close()

    with pytest.raises(RunnerError, match="is there already"):
        Record.create(tmp_path, "run-1", {"name": "mine"}, fill=other)
    assert Record.open(tmp_path / "run-1").state().name == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["run-1"]


def test_a_create_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Record.create(tmp_path, "r1", {"not": object()})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="cannot be written"):
        Record.create(tmp_path / "file", "r1", PLAN)


def test_a_newer_schema_is_refused_by_name(record: Record) -> None:
    raw = (record.path / "transcript.jsonl").read_text().replace('"schema":1', '"schema":2')
    (record.path / "transcript.jsonl").write_text(raw)
    with pytest.raises(RecordError, match="expected a record of schema 1, found 2"):
        Record.open(record.path)


def test_what_is_rebuilt_is_byte_equal(finished: Record) -> None:
    names = ("run.json", "notebook.ipynb")
    before = {name: (finished.path / name).read_bytes() for name in names}
    for name in names:
        (finished.path / name).write_text("spoilt")
    rebuild(finished.path)
    assert {name: (finished.path / name).read_bytes() for name in names} == before
    assert b"hi" in before["notebook.ipynb"]


def test_a_record_opened_again_goes_on(finished: Record) -> None:
    finished.close()
    again = Record.open(finished.path, write=True)
    again.say("attempt", attempt=2, reason="resume")
    again.add_journal([journal_line(5, "start", op="2", cell="a")])
    assert (again.state().state, again.glance().attempts) == ("running", 1)
    again.close()
    report = verify(finished.path)
    assert report.ok, report.findings
    assert '"state": "running"' in (finished.path / "notebook.ipynb").read_text()


def test_the_notebook_follows_the_journal(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record._render_after = 0
    record.add_journal(JOURNAL[:3])
    rendered = (record.path / "notebook.ipynb").read_bytes()
    assert b"hi" in rendered
    record.add_journal(JOURNAL[3:])
    assert (record.path / "notebook.ipynb").read_bytes() == rendered, "not at every call"
    record.render()
    assert b'"state": "ok"' in (record.path / "notebook.ipynb").read_bytes()


def test_the_lock(record: Record) -> None:
    assert not record.alive()
    fd = record.take_lock()
    assert Record.open(record.path).alive()
    with pytest.raises(RecordError, match="another process drives this run"):
        record.take_lock(deadline_s=0)
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[fd]
    )
    os.close(fd)
    assert record.alive(), "whoever inherited it drives the run on"
    child.communicate(b"\n", timeout=20)
    assert not record.alive()


def test_inputs_are_found_by_content(record: Record) -> None:
    sha = record.add_input(b"data")
    assert record.input(sha) == b"data"
    for missing in ("0" * 64, "../run.json"):
        with pytest.raises(RecordError, match="has no file"):
            record.input(missing)
    (record.path / "inputs" / sha).write_bytes(b"other")
    with pytest.raises(RecordError, match="altered"):
        record.input(sha)
    assert [f.file for f in verify(record.path).findings] == [f"inputs/{sha}"]


def test_outputs_from_a_file_and_from_pieces(record: Record, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    items = [
        record.add_output("x/y", s) for s in (tmp_path / "source", b"abc", iter([b"a", b"bc"]))
    ]
    assert {(i["path"], i["bytes"], i["sha256"], i["source"]) for i in items} == {
        ("x/y", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "pulled")
    }

    def cut_off() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(InfrastructureError):
        record.add_output("x/y", cut_off())
    assert [f.name for f in (record.path / "outputs/x").iterdir()] == ["y"]
    assert (record.path / "outputs/x/y").read_bytes() == b"abc"


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../../x", "a//b", "./a", "a\0b", ".."])
def test_an_output_path_that_escapes_is_refused(record: Record, path: str) -> None:
    with pytest.raises(RecordError, match="expected a relative path"):
        record.add_output(path, b"")


def test_symlinks_are_refused(record: Record, tmp_path: Path) -> None:
    (record.path / "outputs/link").symlink_to(tmp_path)
    for path in ("link", "link/x"):
        with pytest.raises(RecordError, match="symlink"):
            record.add_output(path, b"")
    with pytest.raises(RecordError, match="cannot be read"):
        record.add_output("x", record.path / "outputs/link")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RecordError, match="not a plain file"):
        record.add_output("x", tmp_path / "fifo")


def test_runs_are_found(tmp_path: Path, record: Record) -> None:
    root = record.path.parent
    Record.create(root, "second-run", PLAN).close()
    (root / "not a run").mkdir()
    assert {path.name for path in runs(root)} == {"r1", "second-run"}
    assert find(root, "r1") == record.path
    assert find(root, None).name == "second-run", "the newest"
    with pytest.raises(RunNotFound, match="did you mean second-run"):
        find(root, "secnd-run")
    with pytest.raises(RunNotFound, match="holds no run yet"):
        find(tmp_path / "nothing", None)


# --- verify


def words(record: Record, head: str | None = None) -> str:
    report = verify(record.path, head)
    assert report.ok == (not report.findings)
    return "\n".join(map(str, report.findings))


def test_a_whole_record_verifies(finished: Record) -> None:
    report = verify(finished.path, finished.transcript.head)
    assert (report.ok, report.findings, report.notes) == (True, (), ())
    assert (report.transcript_head, report.transcript_lines) == (finished.transcript.head, 5)
    assert (report.journal_head, report.journal_lines) == (finished.journal.head, 4)
    [output] = report.outputs
    assert (output.path, output.kind, output.line) == ("plots/a.png", "evidence", 4)


def test_heads_kept_elsewhere(finished: Record) -> None:
    old = finished.transcript.head
    finished.say("score", score=1)
    assert verify(finished.path, old).notes == ("the head given is that of line 5; 1 lines follow",)
    assert "never had the head abc" in words(finished, "abc")
    assert "no head was given" in verify(finished.path).notes[0]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("transcript.jsonl", '"tool":"run_cell"', '"tool":"run_cold"', "transcript.jsonl, line 4:"),
        ("journal.jsonl", '"text":"hi"', '"text":"ho"', "journal.jsonl, line 4: does not follow"),
        (
            "journal.jsonl",
            '"state":"ok"',
            '"state":"no"',
            "transcript.jsonl, line 3: names another",
        ),
        ("outputs/plots/a.png", "png", "gif", "outputs/plots/a.png: is not what transcript line 4"),
        ("run.json", '"done"', '"gone"', "run.json: is not what the truth amounts to"),
        ("notebook.ipynb", "hi", "ho", "notebook.ipynb: is not what the truth amounts to"),
    ],
)
def test_what_was_altered_is_found(
    finished: Record, name: str, old: str, new: str, expected: str
) -> None:
    file = finished.path / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert expected in words(finished)


def test_what_is_missing_is_found(finished: Record) -> None:
    (finished.path / "outputs/plots/a.png").unlink()
    assert "outputs/plots/a.png: is missing" in words(finished)
    journal = finished.path / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:3]))
    assert "names 4 lines of the journal, which has 3" in words(finished)
    (finished.path / "transcript.jsonl").write_text("")
    assert "transcript.jsonl: is missing or empty" in words(finished)


def test_an_output_that_nobody_pulled_is_testimony(finished: Record) -> None:
    (finished.path / "outputs/late.txt").write_text("trust me")
    report = verify(finished.path)
    assert report.ok
    assert [(o.path, o.kind) for o in report.outputs] == [
        ("plots/a.png", "evidence"),
        ("late.txt", "testimony"),
    ]


def test_a_first_line_that_is_cut_is_no_record(finished: Record) -> None:
    transcript = finished.path / "transcript.jsonl"
    whole = transcript.read_bytes().splitlines()[0]
    for cut in (whole, whole[:200], whole[:200] + b"\n", b""):
        transcript.write_bytes(cut)
        with pytest.raises(RecordError):
            Record.open(finished.path)
    transcript.write_bytes(whole + b"\n")
    assert Record.open(finished.path).state().run_id == finished.path.name


def test_a_running_record_and_a_torn_line_are_no_findings(finished: Record) -> None:
    fd = finished.take_lock()
    (finished.path / "run.json").write_text("{}")
    with (finished.path / "journal.jsonl").open("a") as file:
        file.write('{"half')
    report = verify(finished.path, finished.transcript.head)
    os.close(fd)
    assert report.ok
    assert "half written" in report.notes[0]
    assert "the run goes on" in report.notes[1]


# --- follow


def test_following_from_the_start_is_in_order(finished: Record) -> None:
    got = list(follow(finished.path, from_start=True, stop=lambda: True))
    assert [name for name, _ in got] == ["journal"] * 4 + ["transcript"] * 5
    assert [line["type"] for _, line in got][-1] == "end"
    assert list(follow(finished.path, from_start=False, stop=lambda: True)) == []


def test_following_a_record_that_grows(tmp_path: Path) -> None:
    path, over, got = tmp_path / "runs" / "r", threading.Event(), []

    def read() -> None:
        for name, line in follow(path, from_start=True, stop=over.is_set, poll_s=0.005):
            got.append((name, line["type"]))

    reader = threading.Thread(target=read)
    reader.start()
    record = Record.create(tmp_path / "runs", "r", PLAN)
    record.add_journal(JOURNAL)
    with (path / "journal.jsonl").open("a") as file:
        file.write('{"half')
    record.say("end", state="done")
    over.set()
    reader.join(20)
    assert not reader.is_alive()
    assert sorted(got) == sorted(
        [("journal", line["type"]) for line in JOURNAL]
        + [("transcript", "run"), ("transcript", "end")]
    )
    record.close()
