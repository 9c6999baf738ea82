"""How much memory is in use, and of what limit."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_M_MMAP_THRESHOLD, _LARGE = -3, 128 << 10  # of glibc's malloc.h, and what it begins with
CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
_FILES = (  # limit, use, statistics; version 2, then version 1
    ("memory.max", "memory.current", "memory.stat"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
    ),
)


@dataclass(frozen=True)
class Use:
    """Bytes in use, and the limit in force."""

    used: int
    limit: int

    def __str__(self) -> str:
        return f"{self.used / 2**30:.2f} GiB of the limit of {self.limit / 2**30:.2f} GiB"


def of_cgroup(root: Path = CGROUP) -> Use | None:
    """What this container uses, less the page cache that can be given back.

    None where no limit is set.
    """
    for limit_file, used_file, stat_file in _FILES:
        try:
            text = (root / limit_file).read_text().strip()
            if text == "max" or int(text) >= _UNLIMITED:
                continue
            used = int((root / used_file).read_text())
            stat = dict(line.split() for line in (root / stat_file).read_text().splitlines())
        except (OSError, ValueError):
            continue
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return Use(used - cache, int(text))
    return None


def give_back() -> None:
    """Have this process give large pieces of memory back to the system once they are free.

    By itself glibc keeps ever larger ones: after 200 MB that were printed, 150 MB.
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if set_option is not None:
            set_option(_M_MMAP_THRESHOLD, _LARGE)


def oom_kills(root: Path = CGROUP) -> int:
    """How often the machine itself has killed a process of this container for memory."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            lines = (root / name).read_text().splitlines()
            return int(dict(line.split() for line in lines).get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


def resident(roots: Iterable[int]) -> dict[int, int]:
    """Memory in RAM of each of these processes with all its children, in bytes."""
    sizes = {}
    for root in roots:
        sizes[root] = 0
        try:
            tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
        except psutil.Error:
            continue
        for process in tree:
            try:
                sizes[root] += process.memory_info().rss
            except psutil.Error:
                continue
    return sizes
