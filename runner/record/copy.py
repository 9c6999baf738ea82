"""RecordCopy: a record that is written elsewhere, kept up to date here.

The truth comes as bytes of the very files, so that the chains stay whole;
what is rendered is made here. Several processes may keep one copy: each write
says where it belongs, and what is there already is not written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import locks
from runner.errors import InfrastructureError, RecordError
from runner.notebook import Notebook
from runner.record.chain import NO_LINE, disk_error, read_lines
from runner.record.files import move, parts, put, replace
from runner.record.run import RunFold
from runner.record.store import RENDER_EVERY_S, WITHHELD, renderings
from runner.record.travel import FOLDERS, TRANSCRIPT, files_of

JOURNAL = "journal.jsonl"
TRUTH = (JOURNAL, TRANSCRIPT)
"""In the order in which lines are taken over: a transcript line comes after what it speaks of."""
_LOCK = ".copying"
_BLOCK = 1 << 16


_WHOLE = ".whole"
"""Has the transcript's head at which all of a run that is over had come."""


class Diverged(RecordError):
    """The copy has other lines than what it was made from."""


def is_whole(path: Path) -> bool:
    """Whether the copy in this directory has all of a run that was over."""
    try:
        known = (path / _WHOLE).read_text()
    except FileNotFoundError:
        return False
    return known == head_of(path)


def head_of(path: Path) -> str:
    """The head of the transcript in this directory."""
    transcript = path / TRANSCRIPT
    return head_at(transcript, whole_bytes(transcript))


def whole_bytes(path: Path) -> int:
    """Bytes of a file's whole lines; 0 where there is none."""
    try:
        with path.open("rb") as file:
            return line_end(file.fileno(), os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        return 0


def head_at(path: Path, size: int) -> str:
    """The head of a chain's first `size` bytes, which are whole lines."""
    return hashlib.sha256(last_line(path, size)).hexdigest() if size else NO_LINE


def last_line(path: Path, size: int) -> bytes:
    """The last line of a file's first `size` bytes, which are whole lines; without its newline."""
    if not size:
        return b""
    with path.open("rb") as file:
        begin = line_end(file.fileno(), size - 1)
        file.seek(begin)
        return file.read(size - 1 - begin)


def line_end(fd: int, size: int) -> int:
    """Where the last line that ends within the first `size` bytes ends."""
    while size:
        begin = max(0, size - _BLOCK)
        newline = os.pread(fd, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0


@dataclass(frozen=True)
class _Place:
    """How far into which file."""

    inode: int
    size: int  # of its whole lines

    def continues(self, before: _Place) -> bool:
        return self.inode == before.inode and self.size >= before.size


_NOWHERE = _Place(0, 0)


def _place(file: Path) -> _Place:
    try:
        return _Place(file.stat().st_ino, whole_bytes(file))
    except FileNotFoundError:
        return _NOWHERE


def _check_truth(name: str) -> None:
    if name not in TRUTH:
        raise RecordError(f"{name!r}: expected {' or '.join(TRUTH)}")


def _inside(name: str, folders: Iterable[str]) -> None:
    if parts(name)[0] not in folders:
        raise RecordError(f"{name!r}: expected a file in {', '.join(folders)} of the record")


class RecordCopy:
    """The copy in one directory, which is made when something comes."""

    def __init__(self, path: Path) -> None:
        """Nothing is made yet."""
        self.path = path
        self._heads: dict[str, tuple[int, str]] = {}
        self._run, self._run_at = RunFold(), _NOWHERE
        self._notebook, self._notebook_at = Notebook(), _NOWHERE
        self._render_after = 0.0

    def have(self) -> dict[str, Any]:
        """What a sender has to know: bytes and head of the truth, size and time of the files."""
        if not self.path.is_dir():
            return {}
        with self._locked():
            truth = {name: self._end(name) for name in TRUTH}
        files = {}
        for name in files_of(self.path, *FOLDERS, WITHHELD):
            stat = (self.path / name).stat()
            files[name] = (stat.st_size, stat.st_mtime_ns)
        return {"truth": truth, "files": files}

    def append(self, name: str, at: int, lines: bytes) -> None:
        """Take over whole lines of a truth file, which begin at byte `at`.

        Raises Diverged where they do not follow from what is here.
        """
        _check_truth(name)
        if not lines.endswith(b"\n"):
            raise RecordError(f"{name}: expected whole lines")
        with self._locked():
            size, head = self._end(name)
            if at > size:
                raise Diverged(f"{self.path}/{name}: ends at byte {size}, lines came for {at}")
            fresh = lines[size - at :]
            if not fresh:
                return
            if not fresh.startswith(b'{"prev":"%s"' % head.encode()):
                raise Diverged(f"{self.path}/{name}: has other lines than its original")
            self._write(self.path / name, fresh, size)

    def begin_again(self, name: str) -> None:
        """Put a truth file aside that has diverged from its original."""
        _check_truth(name)
        with self._locked(), contextlib.suppress(FileNotFoundError):
            (self.path / name).replace(self.path / f"{name}.diverged")
            self._heads.pop(name, None)

    def append_log(self, name: str, at: int, data: bytes) -> None:
        """Take over bytes of a file in logs/, from byte `at` on; from 0 on, it begins anew."""
        _inside(name, ("logs",))
        with self._locked():
            if at == 0:
                put(self.path, name, [data])
            else:
                self._write(self.path / name, data, at)

    def part(self) -> Path:
        """Where a file may be written until it is whole."""
        self._make()
        return self.path / f".{os.getpid()}.{os.urandom(4).hex()}.tmp"

    def adopt(self, name: str, part: Path, mtime_ns: int) -> None:
        """Take over a whole file that was written as `part`."""
        _inside(name, (*FOLDERS, WITHHELD))
        os.utime(part, ns=(mtime_ns, mtime_ns))
        move(part, self.path, name)

    def refresh(self) -> None:
        """Let run.json follow the transcript, and notebook.ipynb the journal where it is due."""
        with self._locked():
            self._render_run()
            if time.monotonic() >= self._render_after:
                self._render_notebook()

    def render(self) -> None:
        """Let run.json, score.json and notebook.ipynb follow now."""
        with self._locked():
            self._render_run()
            self._render_notebook()

    def note_whole(self) -> None:
        """Note that all of it has come, and nobody writes any more; see `is_whole`."""
        with self._locked():
            (self.path / _WHOLE).write_text(self._end(TRANSCRIPT)[1])

    def _render_run(self) -> None:
        file = self.path / TRANSCRIPT
        if (now := _place(file)) in (self._run_at, _NOWHERE):
            return
        if not now.continues(self._run_at):
            self._run, self._run_at = RunFold(), _NOWHERE
        for line, _ in read_lines(file, self._run_at.size, now.size):
            self._run.apply(line)
        self._run_at = now
        for name, content in renderings(self._run.state()).items():
            replace(self.path / name, [content])

    def _render_notebook(self) -> None:
        start = time.monotonic()
        file, target = self.path / JOURNAL, self.path / "notebook.ipynb"
        now = _place(file)
        if now == self._notebook_at and target.exists():
            return
        if not now.continues(self._notebook_at):
            self._notebook, self._notebook_at = Notebook(), _NOWHERE
        if now != _NOWHERE:
            for line, _ in read_lines(file, self._notebook_at.size, now.size):
                self._notebook.apply(line)
        self._notebook_at = now
        replace(target, self._notebook.pieces())
        took = time.monotonic() - start
        self._render_after = start + max(RENDER_EVERY_S, 10 * took)

    def _end(self, name: str) -> tuple[int, str]:
        """Bytes and head of what is here; what a crash left of a line is taken away."""
        file = self.path / name
        size = file.stat().st_size if file.exists() else 0
        known = self._heads.get(name)
        if known and known[0] == size:
            return known
        whole = whole_bytes(file)
        if whole < size:
            os.truncate(file, whole)
        self._heads[name] = (whole, head_at(file, whole))
        return self._heads[name]

    def _write(self, file: Path, data: bytes, at: int) -> None:
        try:
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(fd, data[done:], at + done)
            except OSError:
                os.ftruncate(fd, at)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise disk_error(file, error) from error

    def _make(self) -> None:
        try:
            for name in FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.path, error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._make()
        fd = locks.hold(self.path / _LOCK, deadline_s=30)
        if fd is None:
            raise InfrastructureError(
                f"{self.path}: another process is writing this copy, for 30 s now",
                hint=f"`fuser {self.path / _LOCK}` names it",
            )
        try:
            yield
        finally:
            os.close(fd)
