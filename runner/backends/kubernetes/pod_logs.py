"""What the containers of a run printed, from the pod or from the record."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from runner.backends.base import LogLine
from runner.backends.kubernetes.snapshot import Container, Snapshot
from runner.backends.kubernetes.translate import Transient
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client

LOOK_S = 0.3


def read(client: Client, look: Callable[[], Snapshot], *, follow: bool) -> Iterator[LogLine]:
    """The lines of every container that has begun; with `follow` until all have ended."""
    lines: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
    begun: dict[tuple[str, str, int], threading.Thread] = {}
    while True:
        snap = look()
        pod = snap.pod
        for item in pod.containers if pod else ():
            # A pod that is replaced, and a container that is started again, print anew.
            this = (pod.uid, item.name, item.restarts) if pod else None
            if pod and this and item.started and this not in begun:
                begun[this] = threading.Thread(
                    target=_copy, args=(client, pod.name, item, follow, lines), daemon=True
                )
                begun[this].start()
                if not follow:
                    begun[this].join()
        over = pod is None or pod.over or not snap.alive
        while not lines.empty():
            yield lines.get()
        if not any(thread.is_alive() for thread in begun.values()) and (over or not follow):
            while not lines.empty():
                yield lines.get()
            return
        time.sleep(LOOK_S)


def _copy(
    client: Client,
    pod: str,
    item: Container,
    follow: bool,
    lines: queue.SimpleQueue[LogLine],
) -> None:
    source = "prepare" if item.kind == "init" else item.name
    sent = 0
    while True:
        try:
            for number, line in enumerate(_lines(client.log(pod, item.name, follow=follow))):
                if number >= sent:
                    sent += 1
                    lines.put(LogLine(source, line))
            return
        except Transient as error:  # cut off: from its beginning again, past what was sent
            if not follow:
                lines.put(LogLine(source, f"[the log cannot be read: {error.message}]"))
                return
            time.sleep(LOOK_S)
        except RunnerError as error:
            lines.put(LogLine(source, f"[the log cannot be read: {error.message}]"))
            return


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace")
