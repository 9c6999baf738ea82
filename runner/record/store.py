"""Record: the directory of one run."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from runner import locks
from runner.errors import RecordError, RunnerError, RunNotFound
from runner.notebook import Notebook
from runner.record.chain import ChainedLog, disk_error, read_lines
from runner.record.files import pieces_of, put, remove, remove_unfinished, replace
from runner.record.run import RunFold, RunState, fold, from_json, to_json

SCHEMA = 1
_FIRST = re.compile(
    b'{"prev":"0{64}","seq":1,"time":"(?P<time>[^"]*)","type":"run","schema":%d,.*}\n' % SCHEMA
)
"""A record's first line. It holds the plan, and a list of runs need not parse it."""
_PART = ".part"
_LEFT_S = 10.0
"""How long after its directory a record's lock may come."""
WITHHELD = "withheld"
"""Where outputs are that hold a secret value. Copies go without it, unless it is asked for."""
RENDER_EVERY_S = 2.0
"""Seconds between two renderings of notebook.ipynb while the journal grows, at least."""

Mask = Callable[[str], str]


def _refuse_other(path: Path, first: Mapping[str, Any]) -> None:
    if first.get("type") != "run":
        raise RecordError(f"{path}/transcript.jsonl: expected a line of type run first")
    if first.get("schema") != SCHEMA:
        raise RecordError(
            f"{path}: expected a record of schema {SCHEMA}, found {first.get('schema')!r}",
            hint="a newer runner wrote it: use that one",
        )


def now() -> str:
    """Tell the time as a record writes it: ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Record:
    """One run's directory. Its methods may be called from several threads.

    journal.jsonl and transcript.jsonl are the truth and only grow; run.json
    and notebook.ipynb are renderings of them. One process writes: the holder
    of the lock (`take_lock`).
    """

    def __init__(self, path: Path, *, write: bool, mask: Mask) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._write = write
        self._mask = mask
        self._guard = threading.RLock()
        self._render_after = 0.0  # of the monotonic clock
        self._rendered = -1  # the notebook's version in the file

    @classmethod
    def create(
        cls,
        root: Path,
        run_id: str,
        plan: Mapping[str, Any],
        mask: Mask = lambda text: text,
        fill: Callable[[Self], object] = lambda _: None,
    ) -> Self:
        """Make the directory, and write the first line when `fill` has added the inputs.

        It has its name when it is whole: whenever its maker is killed, there is no record, or
        one with all that its run was given. Raises RunnerError where the run exists,
        InfrastructureError when the disk refuses; then nothing is left behind. What a killed
        maker left, the next one removes.
        """
        # Of its own name, as what a killed maker of the same run left may be there still.
        path, part = root / run_id, root / f".{run_id}.{secrets.token_hex(4)}{_PART}"
        there = RunnerError(f"{path}: is there already; a run id is used once")
        if path.exists():
            raise there
        try:
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            part.mkdir()
        except OSError as error:
            raise disk_error(path, error) from error
        held = None
        try:
            held = locks.hold(part / ".lock")
            for name in ("outputs", "inputs", "logs"):
                (part / name).mkdir()
            record = cls(part, write=True, mask=mask)
            fill(record)
            line = {"seq": 1, "time": now(), "type": "run"}
            record.transcript.append(
                {**line, "schema": SCHEMA, "run_id": run_id, "plan": plan}, sync=True
            )
            record.close()
            part.rename(path)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise there from error
            if isinstance(error, OSError):
                raise disk_error(path, error) from error
            raise
        finally:
            if held is not None:
                os.close(held)
        return cls(path, write=True, mask=mask)

    @classmethod
    def open(cls, path: Path, *, write: bool = False, mask: Mask = lambda text: text) -> Self:
        """Open a run's directory; RecordError where it is none or of a newer schema."""
        transcript = path / "transcript.jsonl"
        try:
            with transcript.open("rb") as file:
                usual = _FIRST.match(file.readline())
            first = {} if usual else next(read_lines(transcript), ({}, 0))[0]
        except OSError as error:
            raise RecordError(
                f"{path}: expected the record of a run: {error.strerror}: transcript.jsonl"
            ) from error
        if not usual:
            _refuse_other(path, first)
        record = cls(path, write=write, mask=mask)
        if write:
            outputs = {path / place_of(item) for item in record.state().outputs}
            remove_unfinished(path, kept=outputs)
        return record

    @cached_property
    def transcript(self) -> ChainedLog:
        """The agent's messages and everything that happened to the run."""
        return self._log("transcript.jsonl")

    @cached_property
    def journal(self) -> ChainedLog:
        """The kernel's messages, as the sandbox server wrote them."""
        return self._log("journal.jsonl")

    def say(self, type: str, **fields: Any) -> None:  # noqa: A002 - it is the line's key
        """Write one transcript line, down to the disk, and refresh run.json."""
        with self._guard:
            run = self._run
            line = {"seq": self.transcript.lines + 1, "time": now(), "type": type, **fields}
            run.apply(self.transcript.append(line, sync=True))
            self._write_run()

    def add_journal(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write journal lines, or none: notebook.ipynb follows where it is due.

        It is due every `RENDER_EVERY_S`, or less often where rendering would
        take more than a tenth of the time.
        """
        with self._guard:
            notebook = self._notebook
            for line in self.journal.extend(lines):
                notebook.apply(line)
            if notebook.version != self._rendered and time.monotonic() >= self._render_after:
                self._write_notebook()

    def journal_mark(self) -> dict[str, Any]:
        """How far the journal is: `lines` and `head`, which belong together.

        So far it is on the disk: what the transcript says of it outlives the machine's power.
        """
        with self._guard:
            self.journal.flush()
            return {"lines": self.journal.lines, "head": self.journal.head}

    def render(self) -> None:
        """Write notebook.ipynb and run.json now."""
        with self._guard:
            self._write_run()
            self._write_notebook()

    def state(self) -> RunState:
        """Say what the transcript amounts to."""
        with self._guard:
            return self._run.state() if self._write else _folded(self.path)

    def glance(self) -> RunState:
        """Give the state as run.json has it, which is quick; `state` where there is none."""
        try:
            return from_json((self.path / "run.json").read_bytes())
        except (OSError, ValueError, TypeError):
            return self.state()

    def add_output(
        self, path: str, source: Path | bytes | Iterable[bytes], *, withheld: bool = False
    ) -> dict[str, Any]:
        """Put a file into outputs/, whole or not at all; returns its item of an `outputs` line.

        One that is `withheld`, as it holds a secret value, goes into withheld/ instead.
        Raises RecordError where the path leads out of outputs/ or through a
        symlink, or where `source` is no plain file. Sizes are the caller's to bound.
        """
        if isinstance(source, Path):
            source = pieces_of(source)
        pieces = [source] if isinstance(source, bytes) else source
        folder, other = (WITHHELD, "outputs") if withheld else ("outputs", WITHHELD)
        try:
            (self.path / folder).mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(self.path / folder, error) from error
        size, sha256 = put(self.path / folder, path, pieces)
        remove(self.path / other, path)  # as it was before
        item = {"path": path, "bytes": size, "sha256": sha256, "source": "pulled", "when": now()}
        return item | ({"withheld": True} if withheld else {})

    def add_input(self, data: bytes) -> str:
        """Keep a file that the run was given; returns its SHA-256, by which it is found again."""
        sha256 = hashlib.sha256(data).hexdigest()
        put(self.path / "inputs", sha256, [data])
        return sha256

    def input(self, sha256: str) -> bytes:
        """Read a kept file; RecordError where it is missing or was altered."""
        path = self.path / "inputs" / sha256
        if not re.fullmatch("[0-9a-f]{64}", sha256) or not path.is_file():
            raise RecordError(f"{self.path}/inputs: has no file {sha256!r}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RecordError(f"{path}: its content is not what its name says; it was altered")
        return data

    def alive(self) -> bool:
        """Whether somebody drives the run: holds the lock."""
        return locks.is_held(self.path / ".lock")

    def take_lock(self, deadline_s: float = 5) -> int:
        """Become the one who drives the run; returns an inheritable descriptor that holds it.

        The lock lasts while any process has the descriptor open. Raises
        RecordError where another still holds it after `deadline_s` seconds.
        """
        fd = locks.hold(self.path / ".lock", deadline_s)
        if fd is None:
            raise RecordError(
                f"{self.path}: another process drives this run",
                hint=f"`runner attach {self.path.name}` follows it",
            )
        return fd

    def close(self) -> None:
        """Render a last time and close the files."""
        with self._guard:
            if self._write:
                self.render()
            for name in ("transcript", "journal"):
                if log := self.__dict__.pop(name, None):
                    log.close()

    @cached_property
    def _run(self) -> RunFold:
        run = RunFold()
        if self.transcript.lines:
            for line, _ in read_lines(self.transcript.path):
                run.apply(line)
        return run

    @cached_property
    def _notebook(self) -> Notebook:
        notebook = Notebook()
        for line, _ in read_lines(self.journal.path):
            notebook.apply(line)
        return notebook

    def _log(self, name: str) -> ChainedLog:
        if not self._write:
            raise RecordError(f"{self.path}: is open for reading only")
        return ChainedLog(self.path / name, self._mask)

    def _write_run(self) -> None:
        for name, content in renderings(self._run.state()).items():
            replace(self.path / name, [content])

    def _write_notebook(self) -> None:
        start = time.monotonic()
        replace(self.path / "notebook.ipynb", self._notebook.pieces())
        took = time.monotonic() - start
        self._rendered = self._notebook.version
        self._render_after = start + max(RENDER_EVERY_S, 10 * took)


def _sweep(root: Path) -> None:
    """Remove what makers of records left that were killed."""
    for part in root.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            old = time.time() - part.stat().st_mtime > _LEFT_S
            if old and not locks.is_held(part / ".lock"):
                shutil.rmtree(part)


def place_of(output: Mapping[str, Any]) -> Path:
    """Where in the record the file of an item of an `outputs` line is."""
    return Path(WITHHELD if output.get("withheld") else "outputs", str(output.get("path")))


def rebuilt(path: Path) -> dict[str, bytes]:
    """Make what run.json, score.json and notebook.ipynb must hold from the truth alone."""
    notebook, journal = Notebook(), path / "journal.jsonl"
    for line, _ in read_lines(journal) if journal.exists() else ():
        notebook.apply(line)
    return {**renderings(_folded(path)), "notebook.ipynb": b"".join(notebook.pieces())}


def renderings(state: RunState) -> dict[str, bytes]:
    """The files that the transcript amounts to; score.json once there is a score."""
    files = {"run.json": to_json(state)}
    if state.score is not None:
        files["score.json"] = json.dumps(state.score, indent=2) + "\n"
    return {name: text.encode() for name, text in files.items()}


def rebuild(path: Path) -> None:
    """Write run.json, score.json and notebook.ipynb anew from the truth."""
    for name, content in rebuilt(path).items():
        replace(path / name, [content])


def runs(root: Path) -> list[Path]:
    """List the runs below a directory, in no order: that is in their records, which take time."""
    return [path.parent for path in root.glob("[!.]*/transcript.jsonl")]


def find(root: Path, run: str | None) -> Path:
    """Find a run by its id, the last one for None; RunNotFound names the nearest."""
    known = runs(root)
    if run is None:
        if not known:
            raise RunNotFound(f"{root}: holds no run yet", hint="`runner submit FILE` makes one")
        return max(known, key=lambda path: (_created(path), path.name))
    names = {path.name: path for path in known}
    if run in names:
        return names[run]
    near = difflib.get_close_matches(run, names, n=1, cutoff=0.4)
    raise RunNotFound(
        f"{root}: holds no run {run!r}",
        hint=f"did you mean {near[0]}?" if near else "`runner list` shows the runs",
    )


def _folded(path: Path) -> RunState:
    return fold(line for line, _ in read_lines(path / "transcript.jsonl"))


def _created(path: Path) -> str:
    with (path / "transcript.jsonl").open("rb") as file:
        line = file.readline()
    if usual := _FIRST.match(line):
        return usual["time"].decode()
    try:
        return str(json.loads(line).get("time", ""))
    except (ValueError, AttributeError):
        return ""
