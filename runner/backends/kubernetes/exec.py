"""A command in a running container, with its input and output as streams, over a websocket.

Each message's first byte is its channel: 0 stdin, 1 stdout, 2 stderr, 3 how it ended. In v5 of
the protocol a message on channel 255 closes the channel that it names; v4 cannot close stdin.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from runner.backends.kubernetes.translate import Transient
from runner.backends.kubernetes.watching import READ, WRITE, Bell, Watch
from runner.backends.kubernetes.websocket import PING_S, WebSocket, open_websocket
from runner.backends.reach import ExecError

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
CHUNK = 1 << 16
LIMIT = 1 << 20
"""Bytes of stdin that are held, at most, give or take a chunk."""
STDERR_BYTES = 1 << 16
LAST_WORDS = 500
ENDED_S = 60.0
"""How long output may come after the server has said how the command ended; then it closes."""


def run(
    client: Client,
    pod: str,
    container: str,
    argv: Sequence[str],
    stdin: Iterable[bytes] | None = None,
) -> Exec:
    """Start a command; iterate over the result to have its stdout, in pieces as they come.

    `argv` is seen by many: no secrets in it. Output that is still on its way when the command
    ends, Kubernetes may cut off and call it a success (kubernetes/kubernetes#124571): what must be
    whole says itself that it is. Raises the errors of translate.py at once, and ExecError where the
    output ends.
    """
    query = [("container", container), *(("command", word) for word in argv)]
    query += [("stdout", "true"), ("stderr", "true")]
    if stdin is not None:
        query.append(("stdin", "true"))
    what = f"run {argv[0]} in {pod}/{container}"
    websocket = open_websocket(client, pod, "exec", query, [V5, V4], what=what)
    return Exec(websocket, what, stdin)


class Exec:
    """A command that runs, as an iterator over its stdout; one thread iterates.

    Input is sent, and output taken, while it is iterated. Any thread may `close` it: the
    connection ends, the command sees the end of its pipes, and the iteration ends.
    """

    def __init__(self, websocket: WebSocket, what: str, stdin: Iterable[bytes] | None) -> None:
        """Take over an open websocket."""
        self._websocket, self._what = websocket, what
        self._bell = Bell()
        self._closed = False
        self._stderr = bytearray()
        self._status = b""
        self._feed = _Feed(stdin, self._bell) if stdin is not None else None
        self._chunks = self._iterate()

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next piece of stdout."""
        return next(self._chunks)

    def __enter__(self) -> Exec:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it goes on."""
        self.close()
        self._chunks.close()
        self._websocket.close()  # where it was never iterated
        self._bell.close()

    def close(self) -> None:
        """End it from any thread; whoever iterates sees the end."""
        self._closed = True
        if self._feed is not None:
            self._feed.close()
        self._bell.ring()

    @property
    def stderr(self) -> str:
        """The last 64 KiB that the command has written to stderr so far."""
        return self._stderr.decode("utf-8", "replace")

    def _iterate(self) -> Generator[bytes, None, None]:
        websocket, feed = self._websocket, self._feed
        ended = 0.0
        try:
            with Watch() as watch:
                watch.set(self._bell, read=True)
                while not (websocket.over or self._closed or (feed and feed.error)):
                    watch.set(websocket, read=True, write=websocket.unsent > 0)
                    ready = watch.wait(self._patience(ended))
                    if self._bell in ready:
                        self._bell.quiet()
                    if ready.get(websocket, 0) & WRITE:
                        websocket.flush()
                    if feed is not None and websocket.unsent < LIMIT:
                        self._send(feed)
                    if websocket.more or ready.get(websocket, 0) & READ:
                        yield from self._receive()
                    websocket.keep_alive(reading=True)
                    if self._status:
                        ended = ended or time.monotonic()
                        if time.monotonic() - ended > ENDED_S:
                            break
            if not self._closed:
                self._check()
        finally:
            self._closed = True
            if feed is not None:
                feed.close()
            websocket.close()
            self._bell.close()

    def _patience(self, ended: float) -> float:
        if self._websocket.more:
            return 0.0
        if self._feed is not None and self._feed.waits and self._websocket.unsent < LIMIT:
            return 0.0
        return ENDED_S if ended else PING_S

    def _send(self, feed: _Feed) -> None:
        for _ in range(LIMIT // CHUNK):
            if self._websocket.unsent >= LIMIT:
                return
            chunk = feed.take()
            if chunk is None:
                return
            if chunk:
                self._websocket.send(bytes((STDIN,)) + chunk)
            elif self._websocket.subprotocol == V5:
                self._websocket.send(bytes((CLOSE, STDIN)))

    def _receive(self) -> Iterator[bytes]:
        for message in self._websocket.receive():
            channel, data = message[0] if message else -1, message[1:]
            if channel == STDOUT and data:
                yield data
            elif channel == STDERR:
                self._stderr += data
                del self._stderr[:-STDERR_BYTES]
            elif channel == STATUS:
                self._status += data

    def _check(self) -> None:
        """Raise what the command's end means."""
        if self._feed is not None and self._feed.error is not None:
            raise self._feed.error
        if not self._status:
            broken = self._websocket.broken or "the connection ended before the command did"
            raise Transient(f"cannot {self._what}: {broken}", hint="try again")
        status: dict[str, Any] = json.loads(self._status)
        if status.get("status") == "Success":
            return
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
        words = self.stderr.strip()[-LAST_WORDS:]
        code = int(codes[0]) if codes else None
        said = f"exit status {codes[0]}" if codes else str(status.get("message") or status)
        message = f"cannot {self._what}: {said}" + (f": {words}" if words else "")
        raise ExecError(message, code=code, stderr=self.stderr)


class _Feed:
    """Chunks of an iterable that may block, from a thread of its own; a few are held at most."""

    _HELD = 4

    def __init__(self, chunks: Iterable[bytes], bell: Bell) -> None:
        self.error: BaseException | None = None
        self._bell, self._closed = bell, False
        self._held: list[bytes] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._pump, args=(chunks,), daemon=True).start()

    @property
    def waits(self) -> bool:
        """Whether there is a chunk to take."""
        return bool(self._held)

    def take(self) -> bytes | None:
        """The next chunk, empty at the end; None while there is none."""
        with self._changed:
            if not self._held:
                return None
            self._changed.notify()
            return self._held.pop(0)

    def close(self) -> None:
        """Nothing is taken any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _pump(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                for start in range(0, len(view), CHUNK):
                    if not self._put(bytes(view[start : start + CHUNK])):
                        return
            self._put(b"")
        except BaseException as error:  # raised where the output is read
            self.error = error
            self._put(b"")

    def _put(self, chunk: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._held) < self._HELD)
            if not self._closed:
                self._held.append(chunk)
        self._bell.ring()
        return not self._closed
