"""The kernel of a sandbox, and the one reader of its messages for its whole life."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

READY_DEADLINE_S = 120.0
DRAIN_S = 0.3
"""How long a dead kernel's sockets stay silent before all it sent has been read."""
REPLY_GRACE_S = 5.0
"""How long after a cell went idle its reply may still be on its way (another socket)."""

Message = dict[str, Any]


@dataclass
class Reply:
    """How the kernel answered one execution."""

    status: str
    """ok, error or aborted; died when the kernel did."""
    execution_count: int | None = None
    ename: str = ""


@dataclass
class _Request:
    reply: asyncio.Future[Reply]
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Kernel:
    """Starts, interrupts, restarts and reads one ipykernel over Unix sockets.

    `on_message(msg_id, message)` gets every iopub message, with the id of the
    request that caused it; `on_death(reason)` is called once per death.
    """

    def __init__(
        self,
        argv: list[str],
        runtime: Path,
        cwd: Path,
        env: Mapping[str, str],
        on_message: Callable[[str, Message], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._runtime, self._cwd, self._env = runtime, cwd, dict(env)
        self._on_message, self._on_death = on_message, on_death
        spec = runtime / "run"
        spec.mkdir(parents=True, exist_ok=True)
        (spec / "kernel.json").write_text(
            json.dumps({"argv": argv, "display_name": "run", "language": "python"})
        )
        self._manager: AsyncKernelManager | None = None
        self._client: AsyncKernelClient | None = None
        self._requests: dict[str, _Request] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._last_message = 0.0
        self._ending = ""
        self.id = ""
        self.state = "starting"
        """starting, idle, busy or dead."""

    @property
    def pid(self) -> int | None:
        """The kernel's process, if there is one."""
        provisioner = self._manager.provisioner if self._manager else None
        return getattr(provisioner, "pid", None)

    async def start(self) -> None:
        """Start the process; `wait_ready` says when it answers."""
        self.id, self.state, self._ending = uuid.uuid4().hex[:12], "starting", ""
        self._manager = AsyncKernelManager(
            kernel_name="run",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(self._runtime)], ensure_native_kernel=False
            ),
            transport="ipc",
            ip=str(self._runtime / self.id),
            connection_file=str(self._runtime / f"{self.id}.json"),
        )
        await self._manager.start_kernel(cwd=str(self._cwd), env=self._env)
        self._client = self._manager.client()
        # `client()` clones the manager's session id, and a second client with it hangs the first.
        self._client.session.session = uuid.uuid4().hex
        self._client.start_channels(stdin=False, hb=False)
        self._readers = [
            asyncio.create_task(self._read(self._client.iopub_channel.socket, self._take_iopub)),
            asyncio.create_task(self._read(self._client.shell_channel.socket, self._take_shell)),
            asyncio.create_task(self._watch(self._manager)),
        ]

    async def wait_ready(self) -> None:
        """Wait until the kernel answers.

        Raises TimeoutError after `READY_DEADLINE_S`, RuntimeError if it died before.
        """
        assert self._client is not None
        async with asyncio.timeout(READY_DEADLINE_S):
            # The first answers may come before iopub is subscribed: ask until both are there.
            while True:
                request = self._track(self._client.kernel_info())
                try:
                    async with asyncio.timeout(1.0):
                        if (await request.reply).status == "died":
                            raise RuntimeError(self._ending or "the kernel died while it started")
                        await request.idle.wait()
                    break
                except TimeoutError:
                    continue
        self.state = "idle"

    async def execute(self, source: str, begin: Callable[[str], None]) -> Reply:
        """Run code; `begin` gets the request's id before the first message can come."""
        if self.state == "dead" or self._client is None:
            return Reply("died")
        self.state = "busy"
        msg_id = self._client.execute(
            source, allow_stdin=False, stop_on_error=False, store_history=True
        )
        begin(msg_id)
        request = self._track(msg_id)
        try:
            await request.idle.wait()
            async with asyncio.timeout(REPLY_GRACE_S):
                return await request.reply
        except TimeoutError:
            return Reply("ok")
        finally:
            self._requests.pop(msg_id, None)
            if self.state == "busy":
                self.state = "idle"

    async def interrupt(self) -> None:
        """Send SIGINT to the kernel's process group."""
        if self._manager is not None and self.state in ("busy", "idle"):
            await self._manager.interrupt_kernel()

    async def kill(self, reason: str) -> None:
        """Kill the process; its death is reported with this reason."""
        if self._manager is not None and self.state != "dead":
            self._ending = reason
            await self._manager.signal_kernel(9)

    async def stop(self) -> None:
        """End the process and everything that reads from it; no death is reported."""
        self.state = "dead"
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._readers = []
        if self._client is not None:
            self._client.stop_channels()
        if self._manager is not None:
            await self._manager.shutdown_kernel(now=True)
        self._fail_requests()

    def _track(self, msg_id: str) -> _Request:
        request = _Request(asyncio.get_running_loop().create_future())
        self._requests[msg_id] = request
        return request

    async def _read(self, socket: Any, take: Callable[[Message], None]) -> None:
        assert self._client is not None
        session = self._client.session
        while True:
            frames = await socket.recv_multipart()
            self._last_message = asyncio.get_running_loop().time()
            try:
                _, parts = session.feed_identities(frames)
                message = session.deserialize(parts)
            except ValueError:  # not signed with our key, or cut short
                continue
            take(message)

    def _take_iopub(self, message: Message) -> None:
        parent = message["parent_header"].get("msg_id", "")
        self._on_message(parent, message)
        request = self._requests.get(parent)
        if (
            request
            and message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
        ):
            request.idle.set()

    def _take_shell(self, message: Message) -> None:
        request = self._requests.get(message["parent_header"].get("msg_id", ""))
        if request and not request.reply.done():
            content = message["content"]
            request.reply.set_result(
                Reply(
                    content.get("status", "ok"),
                    content.get("execution_count"),
                    content.get("ename", ""),
                )
            )

    async def _watch(self, manager: AsyncKernelManager) -> None:
        """Notice the process's end; no restarter of Jupyter's, which would hide it."""
        provisioner = manager.provisioner
        assert provisioner is not None
        code = await provisioner.wait()
        loop = asyncio.get_running_loop()
        while loop.time() - self._last_message < DRAIN_S:
            await asyncio.sleep(DRAIN_S / 3)
        self.state = "dead"
        self._ending = self._ending or _words(code)
        self._on_death(self._ending)
        self._fail_requests()

    def _fail_requests(self) -> None:
        for request in self._requests.values():
            if not request.reply.done():
                request.reply.set_result(Reply("died"))
            request.idle.set()


def _words(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"the kernel was killed by signal {name}"
    return f"the kernel's process ended by itself with exit status {code}"

