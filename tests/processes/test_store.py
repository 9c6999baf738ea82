"""Records in S3, on a server of the tests' own."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from pods import packed
from test_record import JOURNAL, PLAN, journal_line
from test_stream import finish, grow, same, until

from runner.errors import InfrastructureError, RecordError
from runner.pod.record import arrive
from runner.pod.uploading import uploading
from runner.record import Record
from runner.record.travel import unpack
from runner.record.verify import verify
from runner.store import Keys, Store, Uploader, open_objects, open_store
from runner.store import segments as splitting
from runner.store.segments import Segment, cut, key_of, next_begin, segments

KEYS = Keys("an-id", "a-value")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server; its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A bucket of this test's own; its URL. The environment has the keys, as in a pod."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"b{abs(hash(request.node.nodeid))}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}/lab"


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record.create(tmp_path / "runs", "r1", PLAN)
    yield record
    record.close()


def keys(bucket: str, run: str = "r1") -> dict[str, int]:
    return {item.key: item.size for item in open_objects(f"{bucket}/{run}").list()}


# -- segments ------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 40), max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
    st.integers(1, 60),
)
def test_segments_are_the_file_whenever_it_is_looked_at(
    lengths: list[int], looks: list[int], full: int
) -> None:
    """However often it is copied on the way, a full segment is never written again."""
    lines = [b"%d" % (i % 10) * (length - 1) + b"\n" for i, length in enumerate(lengths)]
    there: list[tuple[str, bytes]] = []
    before, splitting.FULL_BYTES = splitting.FULL_BYTES, full
    try:
        for look in [*sorted(looks), len(lines)]:
            data = b"".join(lines[:look])
            known = segments("journal.jsonl", ((key, len(part), "") for key, part in there))
            number, begin = next_begin(known)
            done = dict(there)
            for part in cut(data[begin:].splitlines(keepends=True)):
                key = key_of("journal.jsonl", number)
                assert key not in done or (len(done[key]) < full and part.startswith(done[key]))
                done[key] = part
                number += 1
            there = sorted(done.items())
            assert b"".join(part for _, part in there) == data
    finally:
        splitting.FULL_BYTES = before


def test_segments_end_at_a_gap() -> None:
    objects = [
        ("journal/000001.jsonl", 5, "a"),
        ("journal/000003.jsonl", 5, "c"),
        ("x/000002", 1, ""),
    ]
    assert segments("journal.jsonl", objects) == [Segment(1, 0, 5, "a")]
    assert segments("transcript.jsonl", objects) == []


# -- up and down ---------------------------------------------------------------------------


def test_what_was_copied_up_comes_down_the_same(
    bucket: str, record: Record, tmp_path: Path
) -> None:
    grow(record)
    finish(record)
    open_store(f"{bucket}/r1").upload(record.path)
    there = keys(bucket)
    assert {"transcript/000001.jsonl", "journal/000001.jsonl", "run.json"} < set(there)
    assert {"outputs/plots/ä b.png", "logs/agent.log", "notebook.ipynb"} < set(there)
    assert not [key for key in there if "lock" in key or "stored" in key]
    store = open_store(f"{bucket}/r1")
    assert store.download(tmp_path / "copy")
    same(record.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_a_run_that_is_not_there(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"{bucket}/r1")
    assert not store.exists()
    assert not store.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    store.delete()


class Counting:
    """Objects that note what is copied."""

    def __init__(self, url: str) -> None:
        self._objects = open_objects(url)
        self.calls: list[str] = []
        self.url = url

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._objects, name)

        def called(*given: Any) -> Any:
            if name != "list":
                self.calls.append(f"{name} {given[0] if given else ''}")
            return method(*given)

        return called


def test_only_what_is_new_is_copied(
    bucket: str, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "FULL_BYTES", 3000)
    grow(record)
    record.render()
    url = f"{bucket}/r1"
    up, down = Counting(url), Counting(url)
    above, below = Store(up), Store(down)  # type: ignore[arg-type]
    above.upload(record.path)
    below.download(tmp_path / "copy")
    up.calls, down.calls = [], []
    above.upload(record.path)
    Store(up).upload(record.path)  # type: ignore[arg-type]
    below.download(tmp_path / "copy")
    assert [call for call in up.calls if not call.startswith("read")] == []
    assert down.calls == []
    record.add_journal([journal_line(5, "warning", text="x" * 4000)])
    above.upload(record.path, complete=False)
    assert up.calls[-1:] == ["write journal/000001.jsonl"]
    record.add_journal([journal_line(6, "warning", text="y")])
    record.say("outputs", files=[record.add_output("new.txt", b"new")])
    up.calls = []
    above.upload(record.path, complete=False)
    assert up.calls == [
        "write journal/000002.jsonl",
        "put outputs/new.txt",
        "write transcript/000001.jsonl",
    ]
    below.download(tmp_path / "copy")
    assert sorted(down.calls) == [
        "get outputs/new.txt",
        "read journal/000001.jsonl",
        "read journal/000002.jsonl",
        "read transcript/000001.jsonl",
    ]
    finish(record)
    above.upload(record.path)
    below.download(tmp_path / "copy")
    same(record.path, tmp_path / "copy")


def test_a_run_goes_on_in_another_pod(bucket: str, record: Record, tmp_path: Path) -> None:
    """Each pod has a directory of its own, and begins with what the store has."""
    travelling = tmp_path / "record.tar.gz"
    travelling.write_bytes(packed(record.path))
    url = f"{bucket}/r1"
    arrive(travelling, tmp_path / "pod1", url)
    first = Record.open(tmp_path / "pod1", write=True)
    with uploading(first.path, pytest.fail, {**os.environ, "RUNNER_RECORD_URL": url}):
        grow(first)
        first.close()
    arrive(travelling, tmp_path / "pod2", url)
    same(first.path, tmp_path / "pod2")
    second = Record.open(tmp_path / "pod2", write=True)
    with uploading(second.path, pytest.fail, {**os.environ, "RUNNER_RECORD_URL": url}):
        finish(second)
    open_store(url).download(tmp_path / "copy")
    same(second.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_the_pod_that_was_replaced_stops_writing(
    bucket: str, record: Record, tmp_path: Path
) -> None:
    url = f"{bucket}/r1"
    old = open_store(url)
    old.upload(record.path)
    unpack(io.BytesIO(packed(record.path)), tmp_path / "new", packed=True)
    new = Record.open(tmp_path / "new", write=True)
    grow(new)
    open_store(url).upload(new.path)
    record.say("state", state="running", reason="the old one")
    for _ in range(2):
        with pytest.raises(RecordError, match="another process writes it"):
            old.upload(record.path)
    uploader = Uploader(open_store(url), record.path, say=lambda _: None)
    with pytest.raises(RecordError):
        uploader.finish()
    finish(new)
    open_store(url).upload(new.path)
    open_store(url).download(tmp_path / "copy")
    same(new.path, tmp_path / "copy")


def test_a_copy_with_other_lines_begins_again(bucket: str, record: Record, tmp_path: Path) -> None:
    url = f"{bucket}/r1"
    open_store(url).upload(record.path)
    open_store(url).download(tmp_path / "copy")
    lost = Record.open(tmp_path / "copy", write=True)
    for number in range(5):
        lost.say("state", state="running", reason=f"seen, but lost with its node {number}")
    lost.close()
    open_store(url).download(tmp_path / "copy")  # the store has less: what was seen stays
    assert len((tmp_path / "copy" / "transcript.jsonl").read_bytes().splitlines()) == 6
    finish(record)
    open_store(url).upload(record.path)
    open_store(url).download(tmp_path / "copy")
    same(record.path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


def test_deleting_removes_this_run_only(bucket: str, record: Record) -> None:
    for run in ("r1", "r10"):
        open_store(f"{bucket}/{run}").upload(record.path)
        (record.path / ".stored.json").unlink()
    open_store(f"{bucket}/r1").delete()
    assert keys(bucket) == {}
    assert "transcript/000001.jsonl" in keys(bucket, "r10")


# -- the uploader --------------------------------------------------------------------------


def test_the_store_follows_a_record_that_grows(bucket: str, record: Record, tmp_path: Path) -> None:
    url = f"{bucket}/r1"
    uploader = Uploader(open_store(url), record.path, every_s=0.02)
    uploader.start()
    reading, copy = open_store(url), tmp_path / "copy"
    for number in range(20):
        record.add_journal([journal_line(number + 1, "warning", text="x" * 500)])
        mark = record.journal_mark()
        record.say("tool_result", turn=1, tool="run_cell", content=[], journal=mark)
        if reading.download(copy, quick=True):
            # Whatever the transcript speaks of is there, at any moment.
            assert not [finding for finding in verify(copy).findings if "journal" in finding.what]
    until(lambda: keys(bucket).get("transcript/000001.jsonl", 0) > 0, "something is there")
    grown = JOURNAL[0] | {"seq": 21}
    record.add_journal([grown])
    finish(record)
    uploader.finish()
    reading.download(copy)
    same(record.path, copy)


def test_a_store_that_is_away_costs_nothing(
    bucket: str, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = f"{bucket}/r1", list[str]()
    objects = open_objects(url)
    away = threading.Event()
    away.set()

    class Away:
        def __getattr__(self, name: str) -> Any:
            if away.is_set() and name != "url":
                raise InfrastructureError("the store is away")
            return getattr(objects, name)

    uploader = Uploader(Store(Away()), record.path, say=told.append, every_s=0.01)  # type: ignore[arg-type]
    uploader.start()
    grow(record)
    until(lambda: told, "it was told")
    finish(record)
    away.clear()
    uploader.finish()
    assert told == [
        "the record is not copied to its store: the store is away",
        "the record is copied to its store again",
    ]
    open_store(url).download(tmp_path / "copy")
    same(record.path, tmp_path / "copy")


def test_an_end_that_cannot_be_copied_is_an_error(record: Record) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        store = open_store(
            "s3://lab/r1",
            endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}",
            region="us-east-1",
            keys=KEYS,
        )
        begun = time.monotonic()
        with pytest.raises(InfrastructureError, match="not complete in the store") as caught:
            Uploader(store, record.path, say=lambda _: None, every_s=0.01).finish(deadline_s=0.1)
        assert time.monotonic() - begun < 30
    assert "reachable" in caught.value.hint


# -- what the store refuses ----------------------------------------------------------------


def test_a_bucket_that_does_not_exist(bucket: str, record: Record) -> None:
    with pytest.raises(InfrastructureError, match="bucket") as caught:
        open_store("s3://no-such-bucket/lab/r1").upload(record.path)
    assert "records.s3.url" in str(caught.value)


def test_no_keys(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store("s3://lab/r1", endpoint_url=server, region="us-east-1")
    with pytest.raises(InfrastructureError, match="no keys") as caught:
        store.exists()
    assert "AWS_PROFILE" in caught.value.hint


def test_keys_are_in_no_repr() -> None:
    store = open_store("s3://lab/r1", endpoint_url="http://127.0.0.1:1", keys=KEYS)
    assert KEYS.secret not in repr(KEYS) + repr(store)
