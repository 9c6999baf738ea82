"""Whether a model's files are those that its hub told of, by their digests.

The hub's library compares sizes alone. The listing of a commit that it keeps beside the files has
digests as git and LFS have them. A commit whose files were right is not looked at again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.errors import InfrastructureError

CHUNK = 1 << 22
"""Bytes that are read at once."""
REPORT_S = 10.0
LFS, GIT = "lfs_sha256", "blob_id"
"""Digests in a listing: a file that is in LFS has both, and git's is that of a pointer."""
RIGHT = "verified"
"""Directory with a file for each commit whose files were right."""


def check(place: Path, name: str, commit: str, end: float, report: Callable[[str], None]) -> None:
    """Compare the files of a commit in a model's directory of the cache, once.

    Raises InfrastructureError for files that are not right, which are removed with the listing, so
    that all is fetched anew; and where the monotonic clock passes `end`.
    """
    right = place / RIGHT / commit
    if right.exists():
        return
    listing = place / "trees" / f"{commit}.json"
    files = _listed(listing, name)
    total, done, told = sum(size for size, _, _ in files.values()), 0, time.monotonic()
    wrong = []
    for path, (_, kind, expected) in files.items():
        file = place / "snapshots" / commit / path
        digest = _empty(kind, file)
        for piece in _pieces(file):
            digest.update(piece)
            done += len(piece)
            if time.monotonic() > end:
                raise InfrastructureError(
                    f"the digests of {name} were not compared in time: {_amount(done, total)}",
                    hint="its files are kept for the next run; raise `deadlines.prepare` in the "
                    "settings for a model as large",
                )
            if time.monotonic() > told + REPORT_S:
                told = time.monotonic()
                report(f"{name}: digests of {_amount(done, total)} compared")
        if digest.hexdigest() != expected:
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            wrong.append(path)
    if wrong:
        listing.unlink()  # it may be what is wrong
        raise InfrastructureError(
            f"{name} at {commit} is not what the hub says: the digest of {', '.join(wrong)} is "
            "another one",
            hint="removed, and fetched anew by the next run. If that is no better, a disk or a "
            "proxy alters it, or the lab's mirror does",
        )
    right.parent.mkdir(exist_ok=True)
    right.touch()


def _listed(tree: Path, name: str) -> dict[str, tuple[int, str, str]]:
    """Size, kind of digest and digest of each file of a commit, as huggingface-hub 2 writes it."""
    try:
        files: dict[str, Any] = json.loads(tree.read_bytes())["files"]
        return {
            path: (info["size"], LFS, info[LFS])
            if info.get(LFS)
            else (info["size"], GIT, info[GIT])
            for path, info in files.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"the digests of {name} are not known: {tree} is not as expected ({error!r})",
            hint="another version of huggingface-hub wrote it: remove it, it is fetched anew",
        ) from error


def _empty(kind: str, file: Path) -> Any:
    """A digest of nothing yet; git's begins with the size."""
    if kind == LFS:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(CHUNK):
            yield piece


def _amount(done: int, total: int) -> str:
    return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
