"""Shell commands beside the kernel, each in a process group of its own."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

CHUNK = 65536
PIPE_HOLDS = 1 << 20
"""The most that a pipe holds on Linux; by default it is 64 KiB."""
KILL_AFTER_S = 5.0


class Command:
    """One command: its output goes to `on_text(stream, text)` as it comes.

    `pace` is awaited after each piece; a command whose output is not taken waits.
    """

    def __init__(self, process: asyncio.subprocess.Process, pipes: list[_Pipe]) -> None:
        self._process, self._pipes = process, pipes
        self.killed = ""
        """Why it was killed, if we did it."""

    @classmethod
    async def start(
        cls,
        command: str,
        cwd: Path,
        env: Mapping[str, str],
        on_text: Callable[[str, str], None],
        pace: Callable[[], Awaitable[None]],
    ) -> Command:
        """Start it under bash where there is one, else sh, without a terminal or an input."""
        # Pipes of our own: asyncio's `wait` would wait for the end of its pipes too, and a
        # child in the background keeps them open.
        ends = {"stdout": os.pipe(), "stderr": os.pipe()}
        try:
            process = await asyncio.create_subprocess_exec(
                shutil.which("bash") or "/bin/sh",
                "-c",
                command,
                cwd=cwd,
                env=dict(env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=ends["stdout"][1],
                stderr=ends["stderr"][1],
                start_new_session=True,
            )
        except BaseException:
            for read_end, _ in ends.values():
                os.close(read_end)
            raise
        finally:
            for _, write_end in ends.values():
                os.close(write_end)
        pipes = [_Pipe(stream, read_end, on_text, pace) for stream, (read_end, _) in ends.items()]
        return cls(process, pipes)

    @property
    def pid(self) -> int:
        """The leader of its process group."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once all that it wrote has been read.

        What a child in the background writes after that is not.
        """
        try:
            status = await self._process.wait()
        finally:
            for pipe in self._pipes:
                await pipe.finish()
        return status

    async def interrupt(self) -> None:
        """SIGINT to the whole group, and SIGKILL to what still runs after 5 s."""
        self.signal(signal.SIGINT)
        try:
            async with asyncio.timeout(KILL_AFTER_S):
                await self._process.wait()
        except TimeoutError:
            self.killed = f"interrupted; it ignored it for {KILL_AFTER_S:g} s, and was killed"
        self.signal(signal.SIGKILL)

    def kill(self, reason: str) -> None:
        """SIGKILL to the whole group."""
        self.killed = reason
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class _Pipe:
    """The reading end of a pipe."""

    def __init__(
        self,
        stream: str,
        read_end: int,
        on_text: Callable[[str, str], None],
        pace: Callable[[], Awaitable[None]],
    ) -> None:
        self._stream, self._fd, self._on_text, self._pace = stream, read_end, on_text, pace
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ended = False
        os.set_blocking(read_end, False)
        self._task = asyncio.create_task(self._read())

    async def finish(self) -> None:
        """Read what is in the pipe, and close it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        left = PIPE_HOLDS
        while left > 0 and (size := self._take()):
            left -= size
            await self._pace()
        if text := self._decoder.decode(b"", final=True):
            self._on_text(self._stream, text)
        os.close(self._fd)

    async def _read(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, readable.set)
        try:
            while not self._ended:
                await readable.wait()
                if self._take() == 0:
                    readable.clear()
                await self._pace()
        finally:
            loop.remove_reader(self._fd)

    def _take(self) -> int:
        """Read what there is, up to `CHUNK`; returns how many bytes that was."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return 0
        self._ended = not data
        if text := self._decoder.decode(data):
            self._on_text(self._stream, text)
        return len(data)
