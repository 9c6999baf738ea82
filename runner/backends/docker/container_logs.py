"""What the containers of a run printed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.backends.base import LogLine
from runner.backends.docker.snapshot import Container, Snapshot
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient

_OWN = ("sandbox", "agent")
"""The others prepare."""


def read(client: DockerClient, snap: Snapshot, *, follow: bool) -> Iterator[LogLine]:
    """The lines of every container; with `follow` until all have ended."""
    lines: queue.SimpleQueue[LogLine | None] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_copy, args=(client, item, follow, lines), daemon=True)
        for item in snap.containers
    ]
    for thread in threads:
        thread.start()
        if not follow:
            thread.join()
    ended = 0
    while ended < len(threads):
        line = lines.get()
        if line is None:
            ended += 1
        else:
            yield line


def _copy(
    client: DockerClient,
    item: Container,
    follow: bool,
    lines: queue.SimpleQueue[LogLine | None],
) -> None:
    source = item.step if item.step in _OWN else "prepare"
    rest = b""
    try:
        with translated("reading the log"):
            for piece in client.api.logs(item.id, stream=True, follow=follow):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    lines.put(LogLine(source, line.decode("utf-8", "replace")))
        if rest:
            lines.put(LogLine(source, rest.decode("utf-8", "replace")))
    except Exception as error:  # of a log that is gone with its container, too
        lines.put(LogLine(source, f"[the log cannot be read: {error}]"))
    finally:
        lines.put(None)
