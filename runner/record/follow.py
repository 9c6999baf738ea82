"""Following a run's record while it grows."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.record.chain import read_lines

NAMES = ("transcript", "journal")


def follow(
    path: Path, *, from_start: bool, stop: Callable[[], bool], poll_s: float = 0.1
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("transcript" or "journal", line) as the files in `path` grow, by time.

    Looks every `poll_s` seconds; ends when `stop()` was true and all that was
    written by then is read. The files may come later. What is there at one
    look is in order of time; whatever a transcript line speaks of has been
    yielded before it.
    """
    offsets = dict.fromkeys(NAMES, 0) if from_start else _sizes(path)
    while True:
        last_round = stop()
        sizes = _sizes(path)
        news = [_news(path, name, offsets, sizes[name]) for name in reversed(NAMES)]
        idle = True
        for item in heapq.merge(*news, key=lambda item: str(item[1].get("time", ""))):
            idle = False
            yield item
        if last_round:
            return
        if idle:
            time.sleep(poll_s)


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of each file, the transcript's taken first: the journal is written before it."""
    sizes = {}
    for name in NAMES:
        file = path / f"{name}.jsonl"
        sizes[name] = file.stat().st_size if file.exists() else 0
    return sizes


def _news(
    path: Path, name: str, offsets: dict[str, int], size: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    if size > offsets[name]:
        for line, offset in read_lines(path / f"{name}.jsonl", offsets[name], size):
            offsets[name] = offset
            yield name, line
