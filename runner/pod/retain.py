"""`retain DAYS`: removes the records that nothing was written to for so many days.

Run by the chart's CronJob, with the whole claim of records at RECORDS.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from runner import locks
from runner.errors import UsageError
from runner.names import is_run_id

RECORDS = Path("/records")
REMOVED = ".removed-"
"""What the name of a record begins with while it is being removed: one moment it is whole, the
next it is none, and what a killed pod left is found again."""

_DAY_S = 86400


def main(arguments: list[str]) -> int:
    """Remove them, and print the name of each."""
    if len(arguments) != 1 or not arguments[0].isdecimal() or int(arguments[0]) < 1:
        raise UsageError("runner.pod retain: expected a number of days, 1 at least")
    if not RECORDS.is_dir():
        raise UsageError(f"runner.pod retain: {RECORDS} is no directory: mount the claim there")
    oldest = time.time() - int(arguments[0]) * _DAY_S
    found = list(records(RECORDS))
    left = [path for path in RECORDS.glob(f"{REMOVED}*") if path.is_dir()]
    gone = [_remove(path) for path in left]
    kept = 0
    for path in found:
        # Looked at just before: removing others takes long, and a run may have been resumed.
        if last_written(path) < oldest and not _driven(path):
            gone.append(_remove(path))
        else:
            kept += 1
    _say(f"{kept} kept")
    return 0 if all(gone) else 1


def records(root: Path) -> Iterator[Path]:
    """The runs' directories; whatever else is on the claim is none of ours."""
    for path in sorted(root.iterdir()):
        if is_run_id(path.name) and not path.is_symlink() and (path / "transcript.jsonl").is_file():
            yield path


def last_written(record: Path) -> float:
    """When the newest file of a record was written, in seconds since the epoch."""
    return max(_changed(path) for path in (record, *record.rglob("*")))


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # replaced just now, so its directory is young
        return 0.0


def _driven(record: Path) -> bool:
    return locks.is_held(record / ".lock")


def _remove(path: Path) -> bool:
    """Whether it is gone; prints that, or the reason."""
    name = path.name.removeprefix(REMOVED)
    try:
        shutil.rmtree(path.rename(path.with_name(REMOVED + name)))
    except OSError as error:
        _say(f"{name}: cannot be removed: {error}")
        return False
    _say(f"{name}: removed")
    return True


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the log of the CronJob's pod
