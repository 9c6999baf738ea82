"""Store: one run's record in S3, copied up and down, each time only what is new.

    <url>/transcript/000001.jsonl …   whole lines; put together they are transcript.jsonl
    <url>/journal/000001.jsonl …      likewise
    <url>/inputs/ outputs/ logs/      as in the record
    <url>/run.json score.json notebook.ipynb

`.stored.json` in the record's directory says which state of each file is in
the store, so that nothing is copied twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from runner.errors import RecordError
from runner.record.copy import TRUTH, Diverged, RecordCopy, whole_bytes
from runner.record.files import replace
from runner.record.store import WITHHELD
from runner.record.travel import FOLDERS, TRANSCRIPT, files_of
from runner.store.objects import Item, Keys, Objects, open_objects
from runner.store.segments import Segment, cut, key_of, next_begin, segments

INDEX = ".stored.json"
RENDERED = ("run.json", "score.json", "notebook.ipynb")
SLOW_S = 10.0
"""How often logs and what is rendered are copied while they change; at the end in any case."""

Stamp = tuple[int, int]
"""Size and time of change of a local file."""


def open_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    keys: Keys | None = None,
) -> Store:
    """The store of one run, `s3://bucket/prefix/<run-id>`; see `open_objects`."""
    return Store(open_objects(url, endpoint_url=endpoint_url, region=region, keys=keys))


class Store:
    """One run's record in the store. Not to be used by two threads at once."""

    def __init__(self, objects: Objects) -> None:
        """Use `open_store`."""
        self._objects = objects
        self._known: dict[str, list[Segment]] = {}
        self._slow_at = 0.0

    @property
    def url(self) -> str:
        """Where it is."""
        return self._objects.url

    def exists(self) -> bool:
        """Whether the store has a record of this run. Raises InfrastructureError, Denied."""
        return bool(self._objects.list("transcript"))

    def delete(self) -> None:
        """Remove the record from the store."""
        self._objects.delete(first="transcript/")

    # -- down ------------------------------------------------------------------------------

    def download(self, path: Path, *, quick: bool = False, withheld: bool = False) -> bool:
        """Bring the record at `path` up to date, or make it; False where the store has none.

        With `quick` notebook.ipynb may be a little behind, with `withheld` outputs that were
        set aside come too. Lines that are here
        and not in the store stay. Raises InfrastructureError.
        """
        # The transcript is listed first: what it speaks of is in the other list then.
        transcript = self._objects.list("transcript")
        if not transcript:
            return False
        copy, items = RecordCopy(path), self._objects.list()
        folders = (*FOLDERS, WITHHELD) if withheld else FOLDERS
        index = _read_index(path)
        for name in TRUTH:
            found = transcript if name == TRANSCRIPT else items
            there = segments(name, _plain(found))
            self._take_lines(copy, name, there, index)
        for item in items:
            if item.key.partition("/")[0] in folders:
                self._take_file(copy, item, index)
        copy.refresh() if quick else copy.render()
        _write_index(path, index)
        return True

    def _take_lines(
        self, copy: RecordCopy, name: str, there: Sequence[Segment], index: _Index
    ) -> None:
        size = whole_bytes(copy.path / name)
        last = there[-1] if there else None
        if last is None or index.tails.get(name) == (last.number, last.tag, size):
            return
        if size >= last.end and not self._same(copy.path / name, name, last):
            copy.begin_again(name)
            size = 0
        try:
            self._append(copy, name, there, size)
        except Diverged:
            copy.begin_again(name)
            self._append(copy, name, there, 0)
        index.tails[name] = (last.number, last.tag, whole_bytes(copy.path / name))

    def _append(self, copy: RecordCopy, name: str, there: Sequence[Segment], size: int) -> None:
        for segment in there:
            if segment.end > size:
                begin = max(segment.begin, size)
                data = self._objects.read(
                    key_of(name, segment.number), begin - segment.begin, segment.size
                )
                copy.append(name, begin, data)

    def _same(self, file: Path, name: str, segment: Segment) -> bool:
        """Whether the file has at the segment's place what the segment has."""
        with file.open("rb") as local:
            local.seek(segment.begin)
            here = local.read(segment.size)
        return here == self._objects.read(key_of(name, segment.number), 0, segment.size)

    def _take_file(self, copy: RecordCopy, item: Item, index: _Index) -> None:
        stamp = _stamp(copy.path / item.key)
        if stamp and index.files.get(item.key) == (item.tag, *stamp):
            return
        part = copy.part()
        try:
            self._objects.get(item.key, part)
            copy.adopt(item.key, part, item.written_ns)
        finally:
            part.unlink(missing_ok=True)
        stamp = _stamp(copy.path / item.key)
        if stamp:
            index.files[item.key] = (item.tag, *stamp)

    # -- up --------------------------------------------------------------------------------

    def upload(self, path: Path, *, complete: bool = True, withheld: bool = True) -> None:
        """Copy up what is new in the record at `path`.

        `complete`: also what can wait; `withheld`: also outputs that were set aside.
        What a transcript line speaks of is in the store before the line.
        Raises RecordError where the store has lines that the record lacks,
        InfrastructureError; what was not copied is copied the next time.
        """
        index = _read_index(path)
        sizes = {name: whole_bytes(path / name) for name in reversed(TRUTH)}
        try:
            self._give_lines(path, TRUTH[0], sizes[TRUTH[0]])
            aside = [WITHHELD] if withheld else []
            self._give_files(path, files_of(path, "inputs", "outputs", *aside), index)
            self._give_lines(path, TRANSCRIPT, sizes[TRANSCRIPT])
            if complete or time.monotonic() >= self._slow_at:
                self._slow_at = time.monotonic() + SLOW_S
                there = [name for name in RENDERED if (path / name).is_file()]
                self._give_files(path, [*files_of(path, "logs"), *there], index)
            if complete:
                for item in self._objects.list():
                    tag, *stamp = index.files.get(item.key, ("-", 0, 0))
                    if not tag and stamp[0] == item.size:
                        index.files[item.key] = (item.tag, stamp[0], stamp[1])
        finally:
            _write_index(path, index)

    def _give_lines(self, path: Path, name: str, size: int) -> None:
        first = name not in self._known
        known = self._known.setdefault(name, [])
        if not first and size == (known[-1].end if known else 0):
            return
        folder = name.removesuffix(".jsonl")
        there = segments(name, _plain(self._objects.list(folder)))
        if first:
            self._check(path, name, there, size)
        elif [(segment.number, segment.size) for segment in there] != [
            (segment.number, segment.size) for segment in known
        ]:
            del self._known[name]  # the next time it is looked at whole
            raise self._other(name)
        if size:
            del self._known[name]  # unknown, should a write fail: it may have been done
            self._known[name] = list(self._write_lines(path, name, there, size))

    def _write_lines(
        self, path: Path, name: str, there: Sequence[Segment], size: int
    ) -> Iterator[Segment]:
        """Write the segments that are new or longer; yields all that there are then."""
        number, begin = next_begin(there)
        yield from there[: number - 1]
        with (path / name).open("rb") as file:
            file.seek(begin)
            for data in cut(_lines(file, size - begin)):
                if number > len(there) or len(data) != there[number - 1].size:
                    self._objects.write(key_of(name, number), data)
                yield Segment(number, begin, len(data))
                number, begin = number + 1, begin + len(data)

    def _check(self, path: Path, name: str, there: Sequence[Segment], size: int) -> None:
        if there and (there[-1].end > size or not self._same(path / name, name, there[-1])):
            del self._known[name]
            raise self._other(name)

    def _other(self, name: str) -> RecordError:
        return RecordError(
            f"{self.url}: has lines of {name} that are not in this record: another process "
            "writes it there, or did",
            hint="the store's record counts: `runner status RUN` shows it",
        )

    def _give_files(self, path: Path, names: Iterable[str], index: _Index) -> None:
        for name in names:
            stamp = _stamp(path / name)
            if stamp is not None and index.files.get(name, ("", -1, -1))[1:] != stamp:
                self._objects.put(name, path / name)
                index.files[name] = ("", *stamp)


class _Index:
    """Which state of each file is in the store: its ETag, if known, and the local stamp.

    `tails` has each truth file's last segment and its bytes here.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, int, int]] = {}
        self.tails: dict[str, tuple[int, str, int]] = {}


def _read_index(path: Path) -> _Index:
    index = _Index()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        read = json.loads((path / INDEX).read_text())
        index.files = {name: (tag, size, time) for name, (tag, size, time) in read["files"].items()}
        index.tails = {name: (no, tag, size) for name, (no, tag, size) in read["tails"].items()}
    return index


def _write_index(path: Path, index: _Index) -> None:
    text = json.dumps({"files": index.files, "tails": index.tails})
    with contextlib.suppress(OSError):
        if (path / INDEX).read_text() == text:
            return
    replace(path / INDEX, [text.encode()])


def _plain(items: Iterable[Item]) -> Iterator[tuple[str, int, str]]:
    return ((item.key, item.size, item.tag) for item in items)


def _stamp(file: Path) -> Stamp | None:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _lines(file: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Lines, `most` bytes in all."""
    for line in file:
        most -= len(line)
        if most < 0:
            return
        yield line
