"""A record on its way: as an archive, and as a stream that a copy is kept up to date by."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import packed
from test_record import JOURNAL, PLAN, journal_line

from runner.errors import RecordError
from runner.record import Record, read_lines, rebuild
from runner.record import stream as streaming
from runner.record.closing import close, render
from runner.record.copy import Diverged, RecordCopy, head_at, whole_bytes
from runner.record.receiver import Receiver
from runner.record.stream import frames
from runner.record.travel import RECEIVING, members, unpack, write_tar
from runner.record.verify import verify


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record.create(tmp_path / "store", "r1", PLAN)
    yield record
    record.close()


def grow(record: Record) -> None:
    """A cell, an output, and a line that speaks of both."""
    record.add_journal(JOURNAL)
    record.add_input(b"given")
    (record.path / "logs" / "agent.log").write_text("hello\n")
    record.say("outputs", files=[record.add_output("plots/ä b.png", b"png" * 1000)])
    record.say("tool_result", turn=1, tool="run_cell", content=[], journal=record.journal_mark())


def finish(record: Record) -> None:
    journal = record.journal_mark()
    record.say("end", state="done", reason="", bound=None, exit_status=0, journal=journal)
    record.close()


def send(source: Path, target: Path, *, chunk: int = 1 << 16) -> Receiver:
    """One stream, whole; cut into chunks of any size."""
    copy = RecordCopy(target)
    receiver = Receiver(copy)
    have = json.loads(json.dumps(copy.have()))
    data = b"".join(frames(source, have, follow=False, stop=lambda: False))
    receiver.take(data[i : i + chunk] for i in range(0, len(data), chunk))
    return receiver


def same(one: Path, other: Path) -> None:
    assert members(one) == members(other)
    for name in members(one):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


# -- the archive ---------------------------------------------------------------------------


def test_an_archive_holds_the_record_and_nothing_else(record: Record, tmp_path: Path) -> None:
    grow(record)
    (record.path / "outputs" / f".{os.getpid()}.0123abcd.tmp").write_text("half")
    (record.path / "outputs" / ".hidden").write_text("kept")
    (record.path / "stray").write_text("no")
    record.render()
    once = packed(record.path)
    assert packed(record.path) == once
    with tarfile.open(fileobj=io.BytesIO(once)) as archive:
        names = archive.getnames()
    assert names[-1] == "transcript.jsonl"
    assert {"outputs/plots/ä b.png", "outputs/.hidden", "logs/agent.log", "run.json"} < set(names)
    assert not [name for name in names if "tmp" in name or "stray" in name or "lock" in name]
    unpack(io.BytesIO(once), tmp_path / "there", packed=True)
    same(record.path, tmp_path / "there")
    assert verify(tmp_path / "there").ok


def test_an_archive_is_read_up_to_its_end_and_no_further(record: Record, tmp_path: Path) -> None:
    """Whoever sends it over a connection cannot close one direction of it."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb") as target:
        write_tar(record.path, target)
        target.flush()
        unpack(source, tmp_path / "there")  # the pipe is still open
    same(record.path, tmp_path / "there")


def test_a_cut_archive_leaves_no_record(record: Record, tmp_path: Path) -> None:
    grow(record)
    whole = io.BytesIO()
    write_tar(record.path, whole)
    for size in (0, 100, len(whole.getvalue()) // 2, len(whole.getvalue()) - 2000 - 10240):
        with pytest.raises(RecordError, match="no whole archive"):
            unpack(io.BytesIO(whole.getvalue()[:size]), tmp_path / "there")
        assert [file.name for file in (tmp_path / "there").iterdir()] == [RECEIVING]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "outputs/../../x", "x", "outputs", ".lock", "logs/a/../../../b"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    made.seek(0)
    with pytest.raises(RecordError):
        unpack(made, tmp_path / "there")
    there = tmp_path / "there"
    assert set(tmp_path.rglob("*")) == {there, there / RECEIVING}


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        link = tarfile.TarInfo("outputs/x")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    made.seek(0)
    with pytest.raises(RecordError, match="no file of a record"):
        unpack(made, tmp_path / "there")


def test_a_record_is_continued_but_never_overwritten(record: Record, tmp_path: Path) -> None:
    there = tmp_path / "there"
    first = packed(record.path)
    unpack(io.BytesIO(first), there, packed=True)
    grow(record)
    record.render()
    unpack(io.BytesIO(packed(record.path)), there, packed=True)
    same(record.path, there)
    with pytest.raises(RecordError, match="has other lines"):
        unpack(io.BytesIO(first), there, packed=True)
    other = Record.create(tmp_path / "other", "r1", PLAN)
    other.say("state", state="preparing", reason="")
    with pytest.raises(RecordError, match="has other lines"):
        unpack(io.BytesIO(packed(other.path)), there, packed=True)
    other.close()
    same(record.path, there)


# -- the stream ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_copy_from_nothing_is_whole(record: Record, tmp_path: Path, chunk: int) -> None:
    grow(record)
    finish(record)
    receiver = send(record.path, tmp_path / "copy", chunk=chunk)
    assert (receiver.over, receiver.complete) == (True, True)
    same(record.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_only_what_is_new_is_sent(record: Record, tmp_path: Path) -> None:
    grow(record)
    send(record.path, tmp_path / "copy")
    copy = RecordCopy(tmp_path / "copy")
    assert b"".join(frames(record.path, copy.have(), follow=False, stop=bool)).count(b"\n") == 1
    record.say("state", state="ending", reason="")
    with (record.path / "logs" / "agent.log").open("a") as log:
        log.write("more\n")
    record.add_output("plots/ä b.png", b"other")
    news = b"".join(frames(record.path, copy.have(), follow=False, stop=bool))
    assert b"hello" not in news and b"given" not in news
    assert news.count(b'"seq"') == 1
    Receiver(copy).take([news])
    finish(record)
    send(record.path, tmp_path / "copy")
    same(record.path, tmp_path / "copy")


def test_a_half_written_line_stays_behind(record: Record, tmp_path: Path) -> None:
    grow(record)
    with (record.path / "transcript.jsonl").open("ab") as file:
        file.write(b'{"prev":"12')
    send(record.path, tmp_path / "copy")
    copied = tmp_path / "copy" / "transcript.jsonl"
    assert copied.read_bytes() == (record.path / "transcript.jsonl").read_bytes()[:-11]


def test_what_a_crash_left_of_a_line_in_the_copy_is_taken_away(
    record: Record, tmp_path: Path
) -> None:
    grow(record)
    send(record.path, tmp_path / "copy")
    file = tmp_path / "copy" / "transcript.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    send(record.path, tmp_path / "copy")
    assert file.read_bytes() == whole


def test_a_copy_that_diverged_begins_again(record: Record, tmp_path: Path) -> None:
    grow(record)
    send(record.path, tmp_path / "copy")
    elsewhere = Record.open(tmp_path / "copy", write=True)
    elsewhere.say("state", state="running", reason="never seen in the store")
    elsewhere.close()
    finish(record)
    send(record.path, tmp_path / "copy")
    assert "never seen" in (tmp_path / "copy" / "transcript.jsonl.diverged").read_text()
    same(record.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_lines_that_do_not_follow_are_refused(record: Record, tmp_path: Path) -> None:
    grow(record)
    copy = RecordCopy(tmp_path / "copy")
    with pytest.raises(Diverged):
        copy.append("transcript.jsonl", 10, b'{"prev":"x"}\n')
    with pytest.raises(Diverged):
        copy.append("transcript.jsonl", 0, b'{"prev":"x"}\n')
    for name in ("outputs/x", "../transcript.jsonl", "run.json"):
        with pytest.raises(RecordError):
            copy.append(name, 0, b"{}\n")
        with pytest.raises(RecordError):
            copy.append_log(name, 0, b"{}\n")
    for bad in (b"x" * 70_000, b"nonsense\n", b'{"bytes": -1}\n', b'{"bytes": "a"}\n', b"[]\n"):
        with pytest.raises(RecordError):
            Receiver(copy).take([bad])
    piece = b'{"file": "outputs/x", "at": 5, "of": 6, "mtime_ns": 0, "bytes": 1}\nx'
    with pytest.raises(RecordError, match="a piece is missing"):
        Receiver(copy).take([piece])
    with pytest.raises(RecordError):
        Receiver(copy).take(
            [piece.replace(b"s/x", b"s/../x").replace(b"5", b"0").replace(b"6", b"1")]
        )


def test_a_cut_stream_goes_on_where_it_ended(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 100)
    monkeypatch.setattr(streaming, "LINES_BYTES", 300)
    grow(record)
    finish(record)
    copy = RecordCopy(tmp_path / "copy")
    for size in range(50, 6000, 431):
        data = b"".join(frames(record.path, copy.have(), follow=False, stop=bool))
        Receiver(copy).take([data[:size]])
        assert not list(copy.path.glob(".*.tmp"))
    send(record.path, copy.path)
    same(record.path, copy.path)


def test_two_processes_keep_one_copy(record: Record, tmp_path: Path) -> None:
    """Each has its own stream; what one wrote, the other passes over."""
    grow(record)
    one, other = RecordCopy(tmp_path / "copy"), RecordCopy(tmp_path / "copy")
    early = b"".join(frames(record.path, one.have(), follow=False, stop=bool))
    record.say("state", state="ending", reason="")
    later = b"".join(frames(record.path, other.have(), follow=False, stop=bool))
    Receiver(other).take([later])
    Receiver(one).take([early])
    finish(record)
    send(record.path, tmp_path / "copy")
    same(record.path, tmp_path / "copy")


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b".")), max_size=8))
def test_whole_bytes_and_head(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    import hashlib

    file = tmp_path_factory.mktemp("x") / "f"
    data = b"\n".join(parts)
    file.write_bytes(data)
    whole = data.rfind(b"\n") + 1
    assert whole_bytes(file) == whole
    last = data[:whole].split(b"\n")[-2] if whole else b""
    assert head_at(file, whole) == (hashlib.sha256(last).hexdigest() if whole else "0" * 64)


# -- following -----------------------------------------------------------------------------


class Following:
    """A stream that goes on in a thread."""

    def __init__(self, source: Path, target: Path) -> None:
        self.stopped = threading.Event()
        self.copy = RecordCopy(target)
        self.receiver = Receiver(self.copy)
        self.failure: list[BaseException] = []
        self._source = source
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            have = self.copy.have()
            self.receiver.take(frames(self._source, have, follow=True, stop=self.stopped.is_set))
        except BaseException as error:
            self.failure.append(error)

    def end(self) -> None:
        self.stopped.set()
        self.thread.join(20)
        assert not self.thread.is_alive() and not self.failure


def until(true: Callable[[], Any], what: str, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def count(file: Path) -> int:
    return sum(1 for _ in read_lines(file)) if file.exists() else 0


def test_lines_come_as_they_are_written_and_the_end_ends_it(record: Record, tmp_path: Path) -> None:
    lock = record.take_lock()
    following = Following(record.path, tmp_path / "copy")
    transcript = tmp_path / "copy" / "transcript.jsonl"
    try:
        for number in range(10):
            record.say("state", state="running", reason=f"{number}")
            until(lambda number=number: count(transcript) == number + 2, f"line {number}")
        grow(record)
        finish(record)
        until(lambda: count(transcript) == 14, "the end")
        assert following.thread.is_alive()  # who writes has not said that it is done
        os.close(lock)
        lock = -1
        following.thread.join(10)
    finally:
        if lock >= 0:
            os.close(lock)
        following.end()
    assert following.receiver.complete and following.receiver.over
    same(record.path, tmp_path / "copy")


def test_no_line_comes_before_what_it_speaks_of(record: Record, tmp_path: Path) -> None:
    following = Following(record.path, tmp_path / "copy")
    copy = tmp_path / "copy"
    writing = threading.Thread(target=lambda: _busy(record))
    writing.start()
    looked = 0
    try:
        while writing.is_alive() or looked < 20:
            looked += 1
            named = [
                line["journal"]["lines"]
                for line, _ in (
                    read_lines(copy / "transcript.jsonl")
                    if count(copy / "transcript.jsonl")
                    else ()
                )
                if "journal" in line
            ]
            assert count(copy / "journal.jsonl") >= max(named, default=0)
    finally:
        writing.join()
        following.end()


def _busy(record: Record) -> None:
    for number in range(60):
        record.add_journal([journal_line(number + 1, "warning", text="x" * 2000)])
        mark = record.journal_mark()
        record.say("tool_result", turn=1, tool="run_cell", content=[], journal=mark)


def test_lines_come_between_the_pieces_of_a_large_file(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 100)
    monkeypatch.setattr(streaming, "LOOK_S", 0)  # one piece, then lines are looked for
    (record.path / "outputs" / "large").write_bytes(b"x" * 300_000)
    stream = frames(record.path, {}, follow=True, stop=bool)
    seen = [next(stream) for _ in range(10)]
    assert b'"outputs/large"' in seen[-1]
    record.say("state", state="running", reason="between")
    for frame in stream:
        if b"between" in frame:
            break
        assert b"look" not in frame  # that would be after the file
    stream.close()


# -- an end that nobody wrote --------------------------------------------------------------


def test_closing_writes_one_end(record: Record) -> None:
    grow(record)
    record.close()
    assert close(record.path, "failed", "the node was lost", 3)
    assert not close(record.path, "failed", "again", 3)
    state = Record.open(record.path).state()
    assert (state.state, state.reason, state.exit_status) == ("failed", "the node was lost", 3)
    assert verify(record.path).ok


def test_closing_what_was_interrupted_cancels_it(record: Record) -> None:
    record.close()
    assert close(record.path, "interrupted", "evicted", 143)
    assert not close(record.path, "interrupted", "evicted", 143)
    assert close(record.path, "cancelled", "by the user", 130)
    assert not close(record.path, "cancelled", "by the user", 130)


def test_a_record_that_is_driven_is_not_closed(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = record.take_lock()
    monkeypatch.setattr(Record.take_lock, "__defaults__", (0.1,))
    with pytest.raises(RecordError, match="another process drives"):
        close(record.path, "failed", "x", 3)
    os.close(lock)


def test_a_record_that_its_writer_could_not_render_is_rendered(record: Record) -> None:
    grow(record)
    before = (record.path / "run.json").read_bytes()
    finish(record)
    (record.path / "run.json").write_bytes(before)
    (record.path / "notebook.ipynb").unlink()
    left = record.path / ".123.0a1b2c3d.tmp"
    left.touch()
    lock = record.take_lock()
    render(record)
    assert left.exists(), "somebody drives it"
    os.close(lock)
    render(record)
    assert (record.glance().state, left.exists()) == ("done", False)
    assert verify(record.path).ok


def test_a_rebuilt_copy_is_the_same(record: Record, tmp_path: Path) -> None:
    grow(record)
    finish(record)
    send(record.path, tmp_path / "copy")
    before = (tmp_path / "copy" / "notebook.ipynb").read_bytes()
    rebuild(tmp_path / "copy")
    assert (tmp_path / "copy" / "notebook.ipynb").read_bytes() == before
