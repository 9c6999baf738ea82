"""What ends a sandbox, or warns in it: memory, disk, idleness, the run's time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from runner.sandbox.core import Sandbox

EVERY_S = 0.5
DISK_EVERY_S = 5.0
KILL_AT = 0.95
"""Share of the memory limit at which a process is killed, before the kernel of the machine
kills the whole container."""
WARN_DISK_AT, STOP_DISK_AT = 0.80, 0.95
WIND_UP_S = 300.0
"""After the run's timeout the agent has this long to collect outputs and to end the run."""

CGROUP = Path("/sys/fs/cgroup")


async def watch(sandbox: Sandbox) -> None:
    """Look after one sandbox until it is to end; then set `sandbox.ended`."""
    loop = asyncio.get_running_loop()
    disk_at = 0.0
    while not sandbox.ended.is_set():
        await asyncio.sleep(EVERY_S)
        if sandbox.busy:
            await _memory(sandbox)
        if sandbox.options.disk_bytes and loop.time() >= disk_at:
            disk_at = loop.time() + DISK_EVERY_S
            used = await asyncio.to_thread(_tree_size, sandbox.options.workspace)
            await _disk(sandbox, used, sandbox.options.disk_bytes)
        if reason := _over(sandbox, loop.time()):
            sandbox.warn(reason)
            sandbox.ended.set()


def _over(sandbox: Sandbox, time: float) -> str:
    options = sandbox.options
    spent = time - sandbox.ready_at if sandbox.ready_at is not None else 0.0
    unused = time - sandbox.active_at
    if spent > options.timeout_s + WIND_UP_S:
        return f"the run's time ({options.timeout_s:g} s) is over; the sandbox ends"
    # A cell that is silent for days keeps the sandbox, but not past the run's own time.
    if unused > options.idle_timeout_s and (not sandbox.busy or spent > options.timeout_s):
        return f"nobody used this sandbox for {options.idle_timeout_s:g} s; it ends"
    return ""


async def _memory(sandbox: Sandbox) -> None:
    roots = [*sandbox.commands(), *([sandbox.kernel.pid] if sandbox.kernel.pid else [])]
    limit, used = memory(sandbox.options.memory_bytes, roots)
    if limit is None or used <= limit * KILL_AT:
        return
    largest = max(roots, key=lambda root: resident([root]), default=None)
    words = (
        f"out of memory: {used / 2**30:.2f} GiB of the limit of {limit / 2**30:.2f} GiB were in "
        "use, so {} was killed before the machine would have killed everything. "
        "Raise sandbox.memory, or hold less at once"
    )
    if largest is not None and largest in sandbox.commands():
        sandbox.warn(words.format("the shell command that used most"))
        os.killpg(largest, 9)
    else:
        await sandbox.kernel.kill(words.format("the kernel"))


def memory(limit: int | None, roots: Iterable[int]) -> tuple[int | None, int]:
    """The limit in force and what is used of it, in bytes; the limit is None where none is set.

    A limit of the runner's own counts the processes it started; a cgroup's
    counts all that is in it, less the page cache that can be given back.
    """
    if limit is not None:
        return limit, resident(roots)
    for limit_file, used_file, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
        ),
    ):
        try:
            text = (CGROUP / limit_file).read_text().strip()
            if text == "max" or int(text) >= 1 << 60:
                continue
            used = int((CGROUP / used_file).read_text())
            cache = dict(line.split() for line in (CGROUP / stat).read_text().splitlines())
        except (OSError, ValueError):
            continue
        return int(text), used - int(cache.get("inactive_file", 0))
    return None, 0


def resident(roots: Iterable[int]) -> int:
    """Memory in RAM of these processes and all their children, in bytes."""
    total = 0
    for root in roots:
        try:
            tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
        except psutil.Error:
            continue
        for process in tree:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    return total


async def _disk(sandbox: Sandbox, used: int, limit: int) -> None:
    share = used / limit
    words = f"the workspace holds {used / 2**20:.0f} MiB of its limit of {limit / 2**20:.0f} MiB"
    if share >= STOP_DISK_AT:
        if not sandbox.full:
            sandbox.full = f"{words}: nothing new is run until files are deleted"
            sandbox.warn(sandbox.full)
            for operation in list(sandbox.operations.values()):
                await sandbox.interrupt(operation)
    elif share >= WARN_DISK_AT:
        sandbox.full = ""
        warning = f"{words}: delete what is not needed, or wind up (sandbox.disk raises it)"
        if not any(text.endswith("wind up (sandbox.disk raises it)") for text in sandbox.warnings):
            sandbox.warn(warning)
    else:
        sandbox.full = ""


def _tree_size(root: Path) -> int:
    total = 0
    for directory, _, names in os.walk(root, onerror=None):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118
            except OSError:
                continue
    return total
