"""What ends a sandbox, or warns in it: memory, disk, idleness, unused GPUs, the run's time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from runner.sandbox import gpus, memory
from runner.sandbox.core import Sandbox

EVERY_S = 0.25
MEMORY_EVERY_S = 0.1
"""How often memory is looked at, of which little is left."""
COUNT_EVERY_S = 0.5
"""How often processes are counted where no cgroup counts them, as that takes longer; also how
often memory is looked at of which much is left."""
FILLS_AT = 16 << 30
"""Bytes a second: no faster do processes fill memory."""
DISK_EVERY_S = 1.0
DISK_SHARE = 20
"""A count of the disk that took a second is followed by twenty without one."""
KILL_AT = 0.95
"""Share of the memory limit at which a process is killed, before the kernel of the machine
kills the whole container."""
WARN_DISK_AT, STOP_DISK_AT = 0.80, 0.95
WIND_UP_S = 300.0
"""After the run's timeout, or when its GPUs were unused for too long, the agent has this long to
collect outputs and to end the run."""


async def watch(sandbox: Sandbox) -> None:
    """Look after one sandbox until it is to end; then set `sandbox.ended`."""
    sandbox.spawn(_watch_memory(sandbox))
    if sandbox.options.disk_bytes:
        sandbox.spawn(_watch_disk(sandbox, sandbox.options.disk_bytes))
    if sandbox.options.gpus:
        sandbox.spawn(gpus.watch(sandbox))
    told = False
    while not sandbox.ended.is_set():
        if sandbox.journal.failure and not told:
            sandbox.book.warn(
                f"the journal cannot be written ({sandbox.journal.failure}): lines wait in memory, "
                "and whoever prints much has to wait. Delete files"
            )
        told = bool(sandbox.journal.failure)
        if reason := over(sandbox, asyncio.get_running_loop().time()):
            sandbox.book.warn(reason)
            sandbox.ended.set()
        await asyncio.sleep(EVERY_S)


def over(sandbox: Sandbox, time: float) -> str:
    """Why the sandbox ends at this event-loop time, or empty."""
    options = sandbox.options
    spent = time - sandbox.ready_at if sandbox.ready_at is not None else 0.0
    unused = time - sandbox.active_at
    if spent > options.timeout_s + WIND_UP_S:
        return f"the run's time ({options.timeout_s:g} s) is over; the sandbox ends"
    unused_at = sandbox.gpus.over_at if sandbox.gpus else None
    if unused_at is not None and time > unused_at + (WIND_UP_S if options.agent else 0.0):
        return f"{sandbox.gpus_unused}; the sandbox ends"
    # A cell that is silent for days keeps the sandbox, but not past the run's own time.
    # Nobody can use it before its kernel is there; how long that may take is limited elsewhere.
    used = sandbox.kernel_state == "starting" or (sandbox.busy and spent <= options.timeout_s)
    if unused > options.idle_timeout_s and not used:
        return f"nobody used this sandbox for {options.idle_timeout_s:g} s; it ends"
    return ""


# -- memory --------------------------------------------------------------------------------


async def _watch_memory(sandbox: Sandbox) -> None:
    kernel = sandbox.executions.kernel
    while True:
        commands = {run.pid: run for run in sandbox.commands.running.values() if run}
        roots = [*commands, *([kernel.pid] if kernel.pid else [])]
        limit = sandbox.options.memory_bytes
        if limit is None:
            use = memory.of_cgroup()
        else:
            sizes = await asyncio.to_thread(memory.resident, roots)
            use = memory.Use(sum(sizes.values()), limit)
        if use and use.used > use.limit * KILL_AT and roots:
            sizes = await asyncio.to_thread(memory.resident, roots)
            largest = max(roots, key=lambda root: sizes[root])
            if command := commands.get(largest):
                command.kill(words(use, "the command"))
            else:
                await kernel.kill(words(use, "the kernel"))
        await asyncio.sleep(COUNT_EVERY_S if limit is not None else pause_s(use))


def pause_s(use: memory.Use | None) -> float:
    """How long memory need not be looked at: what is left of it cannot be filled sooner."""
    left = use.limit * KILL_AT - use.used if use else float("inf")
    return min(max(left / FILLS_AT, MEMORY_EVERY_S), COUNT_EVERY_S)


def words(use: memory.Use, who: str) -> str:
    """Why a process was killed."""
    return (
        f"out of memory: {use} was in use, so {who} was killed before the machine would have "
        "killed everything. Hold less at once, or raise sandbox.memory"
    )


# -- disk ----------------------------------------------------------------------------------


async def _watch_disk(sandbox: Sandbox, limit: int) -> None:
    loop, warned = asyncio.get_running_loop(), False
    places = (sandbox.options.workspace, sandbox.options.state)
    while True:
        began = loop.time()
        used = await asyncio.to_thread(tree_size, *places)
        state = f"the sandbox holds {used / 2**20:.0f} MiB of its limit of {limit / 2**20:.0f} MiB"
        if used >= limit * STOP_DISK_AT:
            if not sandbox.full or used >= limit:
                await _stop_for_disk(sandbox, f"{state}: no cell is run until files are deleted")
        else:
            sandbox.full = ""
            if used >= limit * WARN_DISK_AT and not warned:
                sandbox.book.warn(
                    f"{state}: delete what is not needed, or wind up (sandbox.disk raises it)"
                )
        warned = used >= limit * WARN_DISK_AT
        await asyncio.sleep(max(DISK_EVERY_S, DISK_SHARE * (loop.time() - began)))


async def _stop_for_disk(sandbox: Sandbox, words: str) -> None:
    """Interrupt all that may write; a shell command may still be sent, to delete files."""
    if not sandbox.full:
        sandbox.full = words
        sandbox.book.warn(words)
    running = [op for op in sandbox.book.operations.values() if not op.final]
    await asyncio.gather(*(sandbox.interrupt(operation) for operation in running))


def tree_size(*roots: Path) -> int:
    """Bytes on disk of all that is in these directories, a file with several names once."""
    total, seen = 0, set()
    for root in roots:
        for directory, _, names in os.walk(root):
            for name in names:
                try:
                    info = os.lstat(f"{directory}/{name}")
                except OSError:
                    continue
                if info.st_nlink > 1:
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
    return total
