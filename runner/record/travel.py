"""A record on its way to a machine that has none: a tar archive, its transcript last.

Whoever unpacks it has a record only when the transcript is in its place, so
that one that was cut off is none.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from runner import locks
from runner.errors import RecordError
from runner.record.chain import disk_error
from runner.record.files import UNFINISHED, put
from runner.record.store import Record

TRAVELS_BYTES = 900 * 1024
"""The most that fits into a ConfigMap beside the plan: an object of Kubernetes ends at 1 MiB."""
TRANSCRIPT = "transcript.jsonl"
FOLDERS = ("inputs", "outputs", "logs")
FILES = ("journal.jsonl", "run.json", "score.json", "notebook.ipynb")
"""What a record has besides its transcript. Locks and half-written files stay behind."""
STAGE = ".receiving"
RECEIVING = ".receiving.lock"
RECEIVING_S = 120.0
"""How long another one may take that brings the same record: a client, or the run's pod."""
LOCK_S = 1.0
"""How long who merely looks may hold the record's lock."""
_PIECE = 1 << 20


def files_of(path: Path, *folders: str) -> Iterator[str]:
    """The plain files below these folders of a record, as paths in it; none half-written."""
    for folder in folders:
        for top, inner, names in os.walk(path / folder):
            inner.sort()
            for name in sorted(names):
                file = Path(top, name)
                if not UNFINISHED.fullmatch(name) and file.is_file() and not file.is_symlink():
                    yield file.relative_to(path).as_posix()


def members(path: Path) -> list[str]:
    """Everything that makes up the record, its transcript last."""
    there = [name for name in FILES if (path / name).is_file()]
    return [*files_of(path, *FOLDERS), *there, TRANSCRIPT]


def write_tar(path: Path, out: IO[bytes]) -> None:
    """Write the record as a tar archive; the same record gives the same bytes."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in members(path):
            with (path / name).open("rb") as file:
                item = tarfile.TarInfo(name)
                item.size = os.fstat(file.fileno()).st_size
                archive.addfile(item, file)


def pack(path: Path) -> bytes | None:
    """The record as `.tar.gz`: what travels in the Job's ConfigMap; None above `TRAVELS_BYTES`."""
    out = _Bounded()
    try:
        with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed:
            write_tar(path, packed)  # type: ignore[arg-type]
    except _TooLarge:
        return None
    return out.getvalue()


class _TooLarge(Exception):
    pass


class _Bounded(io.BytesIO):
    """Takes so many bytes and no more: what is larger need not be packed to its end."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > TRAVELS_BYTES:
            raise _TooLarge
        return super().write(data)


def unpack(archive: IO[bytes], path: Path, *, packed: bool = False, only_new: bool = False) -> None:
    """Put the record of an archive into the directory `path`, which may hold an older state of it.

    Those who bring the same record at once take turns; with `only_new` one that is there is
    left as it is. Reads no byte after the archive's own end. Raises RecordError for what is no
    record, where the directory has lines that the archive lacks, and while somebody drives the
    run; InfrastructureError when the disk refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        turn = locks.hold(path / RECEIVING, RECEIVING_S)
    except OSError as error:
        raise disk_error(path, error) from error
    if turn is None:
        raise RecordError(f"{path}: another one brings this record, for {RECEIVING_S:g} s now")
    try:
        if not (path / TRANSCRIPT).exists():
            _unpack(archive, path, packed=packed)
        elif not only_new:
            lock = Record.open(path).take_lock(LOCK_S)
            try:
                _unpack(archive, path, packed=packed)
            finally:
                os.close(lock)
    finally:
        os.close(turn)


def _unpack(archive: IO[bytes], path: Path, *, packed: bool) -> None:
    stage = path / STAGE
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        _extract(archive, stage, "r|gz" if packed else "r|")
        _replace(stage, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _extract(archive: IO[bytes], stage: Path, mode: str) -> None:
    try:
        with tarfile.open(fileobj=archive, mode=mode) as tar:  # type: ignore[call-overload]
            for item in tar:
                top = item.name.partition("/")[0]
                if not item.isreg() or not (item.name in (*FILES, TRANSCRIPT) or top in FOLDERS):
                    raise RecordError(f"{item.name!r}: is no file of a record")
                content = tar.extractfile(item)
                assert content is not None  # noqa: S101 - as it is a plain file
                put(stage, item.name, iter(partial(content.read, _PIECE), b""))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise RecordError(f"what came is no whole archive of a record: {error}") from error
    if not (stage / TRANSCRIPT).is_file():
        raise RecordError(f"what came is no whole archive of a record: no {TRANSCRIPT}")


def _replace(stage: Path, path: Path) -> None:
    """Everything into its place, the transcript last."""
    names = members(stage)
    for name in ("journal.jsonl", TRANSCRIPT):
        if not _continues(path / name, stage / name):
            raise RecordError(
                f"{path}/{name}: has other lines than the record that came; nothing was changed",
                hint="a run id is used once: `runner submit` makes a new one",
            )
    for folder in FOLDERS:
        (path / folder).mkdir(exist_ok=True)
    (path / ".lock").touch()
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(path / name)


def _continues(old: Path, new: Path) -> bool:
    """Whether the new file begins with all that the old one holds."""
    with contextlib.ExitStack() as stack:
        try:
            before = stack.enter_context(old.open("rb"))
        except FileNotFoundError:
            return True
        if not new.is_file():
            return not before.read(1)
        after = stack.enter_context(new.open("rb"))
        while piece := before.read(_PIECE):
            if after.read(len(piece)) != piece:
                return False
    return True
