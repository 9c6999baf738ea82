"""A command in a running container, with its input and output as streams.

The engine takes the connection over after the request. What comes is in frames: one byte that
names the stream, three of nothing, four with the length (big-endian), and so many bytes.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Self

from runner.backends.reach import ExecError
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient

STDOUT = 1
HEADER = struct.Struct(">BxxxL")
CHUNK = 1 << 16
STDERR_BYTES = 1 << 16
LAST_WORDS = 500


class Exec:
    """A command that runs, as an iterator over its stdout; one thread iterates.

    Any thread may `close` it: the command sees the end of its pipes, and the iteration ends.
    """

    def __init__(
        self,
        client: DockerClient,
        container: str,
        argv: Sequence[str],
        stdin: Iterable[bytes] | None = None,
    ) -> None:
        """Start it; raises InfrastructureError where the container does not run."""
        self._client, self._what = client, f"run {shlex.join(argv)[-80:]} in {container[:12]}"
        with translated(self._what):
            made = client.api.exec_create(container, list(argv), stdin=stdin is not None)
            self._id = made["Id"]
            stream = client.api.exec_start(self._id, socket=True)
        self._stream = stream  # who lets go of it closes the socket
        self._socket, self._reader = _taken_over(stream)
        self._socket.settimeout(None)
        self._closed = False
        self._stderr = bytearray()
        if stdin is not None:
            threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()
        self._chunks = self._iterate()

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next piece of stdout."""
        return next(self._chunks)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it goes on."""
        self.close()
        self._stream.close()
        self._socket.close()

    def close(self) -> None:
        """End it from any thread; whoever iterates sees the end."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _feed(self, stdin: Iterable[bytes]) -> None:
        with contextlib.suppress(OSError):  # the command has ended: the reader says how
            for chunk in stdin:
                if self._closed:
                    return
                self._socket.sendall(chunk)
            self._socket.shutdown(socket.SHUT_WR)

    def _iterate(self) -> Iterator[bytes]:
        whole = True
        while header := self._read(HEADER.size):
            stream, left = HEADER.unpack(header) if len(header) == HEADER.size else (0, 1)
            while left and (data := self._read(min(left, CHUNK))):
                left -= len(data)
                if stream == STDOUT:
                    yield data
                else:
                    self._stderr += data
                    del self._stderr[:-STDERR_BYTES]
            whole = not left
        if not self._closed:
            self._check(whole)

    def _read(self, wanted: int) -> bytes:
        """So many bytes; fewer, or none, where the stream ends."""
        try:
            return self._reader.read(wanted)
        except (OSError, ValueError):  # cut, or closed by another thread
            return b""

    def _check(self, whole: bool) -> None:
        """Raise what the command's end means."""
        with translated(self._what):
            code = self._client.api.exec_inspect(self._id)["ExitCode"]
        if code == 0 and whole:
            return
        said = self._stderr.decode("utf-8", "replace")
        words = said.strip()[-LAST_WORDS:]
        how = f"exit status {code}" if code else "its connection was cut"
        message = f"cannot {self._what}: {how}" + (f": {words}" if words else "")
        raise ExecError(message, code=code, stderr=said)


def _taken_over(stream: Any) -> tuple[socket.socket, IO[bytes]]:
    """The socket in what the SDK gives, and the reader that has been reading from it.

    Output may have come in one piece with the head of the response: then that reader holds it.
    """
    return getattr(stream, "_sock", stream), stream._response.raw._fp.fp


def output(client: DockerClient, container: str, argv: Sequence[str]) -> bytes:
    """What a command printed; raises ExecError where it fails."""
    with Exec(client, container, argv) as ran:
        return b"".join(ran)
