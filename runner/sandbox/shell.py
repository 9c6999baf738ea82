"""Shell commands beside the kernel, each in a process group of its own."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

CHUNK = 65536
DRAIN_S = 0.3
"""How long the output is still read after the command ended: a child in the background may
keep the pipe open for ever."""
KILL_AFTER_S = 5.0


class Command:
    """One command: its output goes to `on_text(stream, text)` as it comes."""

    def __init__(
        self, process: asyncio.subprocess.Process, readers: list[asyncio.Task[None]]
    ) -> None:
        self._process, self._readers = process, readers

    @classmethod
    async def start(
        cls,
        command: str,
        cwd: Path,
        env: Mapping[str, str],
        on_text: Callable[[str, str], None],
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
        readers = [
            asyncio.create_task(_read(stream, read_end, on_text))
            for stream, (read_end, _) in ends.items()
        ]
        return cls(process, readers)

    @property
    def pid(self) -> int:
        """The leader of its process group."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once its output has been read."""
        status = await self._process.wait()
        _, unread = await asyncio.wait(self._readers, timeout=DRAIN_S)
        for reader in unread:
            reader.cancel()
        await asyncio.gather(*unread, return_exceptions=True)
        return status

    async def interrupt(self) -> None:
        """SIGINT to the whole group, and SIGKILL to what still runs after 5 s."""
        self.signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_AFTER_S):
                await self._process.wait()
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def _read(stream: str, read_end: int, on_text: Callable[[str, str], None]) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while data := await reader.read(CHUNK):
            if text := decoder.decode(data):
                on_text(stream, text)
        if text := decoder.decode(b"", final=True):
            on_text(stream, text)
    finally:
        transport.close()
