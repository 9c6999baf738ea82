"""The kernel of a sandbox, and the one reader of its messages for its whole life."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from runner.sandbox import memory
from runner.sandbox.messages import DIED, Message, Reply, Request, decode

READY_DEADLINE_S = 120.0
CONNECTION_S = 20.0
"""How long a kernel that starts is asked over the same connection."""
ASK_EVERY_S = 1.0
"""How often a kernel that starts is asked whether it is there."""
DRAIN_S = 0.3
"""How long a dead kernel's sockets stay silent before all it sent has been read."""
GRACE_S = 5.0
"""How long after a cell's reply its last output may still come, or the other way round: they
come over two sockets."""
BEGIN_S = 2.0
"""How long an interrupt waits for its cell to begin: before, the kernel would ignore it."""
SETTLE_S = 0.1
"""How long after that IPython may still prepare the cell, and swallow an interrupt."""
MOST_UNREAD = 100
"""Messages that wait in this process to be read; then they wait in the kernel's."""
LAST_WORDS = 600
"""Characters of a dead process's log that are told, from each of its ends."""


class Kernel:
    """Starts, interrupts, restarts and reads one ipykernel over Unix sockets.

    `on_message(msg_id, message)` gets every iopub message, with the id of the
    request that caused it; `on_death(reason)` is called once per death, also
    of a kernel that never came to life. `pace` is awaited after each message:
    a kernel whose messages are not read waits, it drops none.
    """

    def __init__(
        self,
        argv: list[str],
        runtime: Path,
        log: Path,
        cwd: Path,
        env: Mapping[str, str],
        on_message: Callable[[str, Message], None],
        on_death: Callable[[str], None],
        pace: Callable[[], Awaitable[None]],
    ) -> None:
        self._runtime, self._log, self._cwd, self._env = runtime, log, cwd, dict(env)
        self._on_message, self._on_death, self._pace = on_message, on_death, pace
        spec = runtime / "run"
        spec.mkdir(parents=True, exist_ok=True)
        (spec / "kernel.json").write_text(
            json.dumps({"argv": argv, "display_name": "run", "language": "python"})
        )
        self._manager: AsyncKernelManager | None = None
        self._client: AsyncKernelClient | None = None
        self._requests: dict[str, Request] = {}
        self._current: Request | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._last_message = 0.0
        self._ending = ""
        self._oom_kills = 0
        self.id = ""
        self.state = "starting"
        """starting, idle, busy or dead."""
        self.reason = ""
        """Why it is dead."""

    @property
    def pid(self) -> int | None:
        """The kernel's process, if there is one."""
        provisioner = self._manager.provisioner if self._manager else None
        return getattr(provisioner, "pid", None)

    async def start(self) -> bool:
        """Start the process and wait until it answers; False when it does not, see `reason`."""
        self.id, self.state, self._ending, self.reason = uuid.uuid4().hex[:12], "starting", "", ""
        self._oom_kills = memory.oom_kills()
        self._manager = AsyncKernelManager(
            kernel_name="run",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(self._runtime)], ensure_native_kernel=False
            ),
            transport="ipc",
            ip=str(self._runtime / self.id),
            connection_file=str(self._runtime / f"{self.id}.json"),
        )
        try:
            with self._log.open("wb") as log:
                await self._manager.start_kernel(
                    cwd=str(self._cwd), env=self._env, stdout=log, stderr=log
                )
        except OSError as error:
            self._dead(f"the kernel did not start: {error}")
            return False
        watcher = asyncio.create_task(self._watch(self._manager))
        loop = asyncio.get_running_loop()
        end = loop.time() + READY_DEADLINE_S
        while self.state == "starting" and loop.time() < end:
            self._connect(self._manager, watcher)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECTION_S):
                    return await self._answers()
            # It may have missed the event of a message, and hears of none until another
            # connection comes: https://github.com/ipython/ipykernel/issues/1554
            await self._disconnect()
        self._readers = [watcher]
        await self.kill(
            f"the kernel did not answer within {READY_DEADLINE_S:g} s{self._last_words()}"
        )
        return False

    def _connect(self, manager: AsyncKernelManager, watcher: asyncio.Task[None]) -> None:
        self._client = manager.client()
        self._client.context.setsockopt(zmq.RCVHWM, MOST_UNREAD)  # for sockets that are yet to come
        # `client()` clones the manager's session id, and a second client with it hangs the first.
        self._client.session.session = uuid.uuid4().hex
        self._client.start_channels(stdin=False, hb=False)
        self._readers = [
            watcher,
            asyncio.create_task(self._read(self._client.iopub_channel.socket, self._take_iopub)),
            asyncio.create_task(self._read(self._client.shell_channel.socket, self._take_shell)),
        ]

    async def _disconnect(self) -> None:
        watcher, *readers = self._readers
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        self._readers = [watcher]
        if self._client is not None:
            self._client.stop_channels()
            self._client = None

    async def _answers(self) -> bool:
        assert self._client is not None  # noqa: S101 - `start` has just set it
        # The first answers may come before iopub is subscribed: ask again until one is whole. An
        # earlier one will do: where the machine is busy, each takes longer than the pause.
        answered, asked = asyncio.Event(), list[str]()
        try:
            while not answered.is_set():
                asked.append(self._client.kernel_info())
                self._requests[asked[-1]] = Request(complete=answered)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_EVERY_S):
                        await answered.wait()
            if any(self._requests[msg_id].reply == DIED for msg_id in asked):
                return False
        finally:
            for msg_id in asked:
                self._requests.pop(msg_id, None)
        if self.state == "starting":
            self.state = "idle"
        return self.state == "idle"

    async def execute(
        self, source: str, begin: Callable[[str], None], *, hidden: bool = False
    ) -> Reply:
        """Run code; `begin` gets the request's id before the first message can come.

        What is hidden is not in the kernel's own history (`In`) either.
        """
        if self.state == "dead" or self._client is None:
            return DIED
        msg_id = self._client.execute(
            source, allow_stdin=False, stop_on_error=False, store_history=not hidden
        )
        begin(msg_id)
        self.state = "busy"
        request = self._current = self._track(msg_id)
        try:
            return await self._outcome(request)
        finally:
            self._current = None
            self._requests.pop(msg_id, None)
            if self.state == "busy":
                self.state = "idle"

    async def _outcome(self, request: Request) -> Reply:
        """The reply, once all output is here."""
        loop, since = asyncio.get_running_loop(), None
        while not request.complete.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await request.complete.wait()
            # Code can break the kernel's sockets, so one half may never come. But a flood of
            # output takes its time.
            if request.idle or request.reply:
                since = since or loop.time()
                if loop.time() - max(since, self._last_message) >= GRACE_S:
                    break
        if request.reply is not None:
            return request.reply
        return Reply("error", ename=request.ename or "the kernel went idle without a reply")

    async def interrupt(self) -> None:
        """Send SIGINT to the kernel's process group, once the current cell has begun."""
        request, manager = self._current, self._manager
        if request is None or manager is None:
            return
        try:
            async with asyncio.timeout(BEGIN_S):
                await request.begun.wait()
                await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            pass
        if request is self._current and self.state == "busy":
            await manager.interrupt_kernel()

    async def kill(self, reason: str) -> None:
        """Kill the process; its death is reported with this reason."""
        if self._manager is not None and self.state != "dead":
            self._ending = self._ending or reason
            await self._manager.signal_kernel(signal.SIGKILL)

    async def stop(self, *, starting: bool = False) -> None:
        """End the process and everything that reads from it; no death is reported.

        `starting` says that another one follows.
        """
        self.state = "starting" if starting else "dead"
        self.reason = "" if starting else "it was stopped"
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._readers = []
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        if self._manager is not None and self._manager.has_kernel:
            await self._manager.shutdown_kernel(now=True)
        elif self._manager is not None:
            await self._manager.cleanup_resources()
        self._fail_requests()

    def _track(self, msg_id: str) -> Request:
        request = self._requests[msg_id] = Request()
        return request

    async def _read(self, socket: Any, take: Callable[[Message], None]) -> None:
        assert self._client is not None  # noqa: S101 - readers live as long as the client
        session, loop = self._client.session, asyncio.get_running_loop()
        while True:
            frames = await socket.recv_multipart()
            self._last_message = loop.time()
            # The code that runs in the kernel can send anything: what is not signed with our key,
            # not what the protocol says, or nested too deep, must not stop us from reading on.
            with contextlib.suppress(ValueError, RecursionError):
                if message := decode(session, frames):
                    take(message)
            await self._pace()

    def _take_iopub(self, message: Message) -> None:
        parent = message["parent_header"].get("msg_id", "")
        self._on_message(parent, message)
        request = self._requests.get(parent)
        if request is None:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "execute_input":
            request.begun.set()
        elif kind == "error":
            request.ename = str(content.get("ename"))
        elif kind == "status" and content["execution_state"] == "idle":
            request.went_idle()

    def _take_shell(self, message: Message) -> None:
        request = self._requests.get(message["parent_header"].get("msg_id", ""))
        if request is not None:
            content = message["content"]
            count, ename = content.get("execution_count"), str(content.get("ename", ""))
            request.answered(Reply(str(content.get("status", "ok")), count, ename))

    async def _watch(self, manager: AsyncKernelManager) -> None:
        """Notice the process's end; no restarter of Jupyter's, which would hide it."""
        provisioner = manager.provisioner
        assert provisioner is not None  # noqa: S101 - the kernel has been started
        code = await provisioner.wait()
        loop, noticed = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        while loop.time() - max(noticed, self._last_message) < DRAIN_S:
            await asyncio.sleep(DRAIN_S / 6)
        self._dead(self._ending or self._words(code))

    def _dead(self, reason: str) -> None:
        self.state, self.reason = "dead", reason
        self._on_death(reason)
        self._fail_requests()

    def _words(self, code: int | None) -> str:
        if code is None or code >= 0:
            words = f"the kernel's process ended by itself with exit status {code}"
            return words + self._last_words()
        if code == -signal.SIGKILL and memory.oom_kills() > self._oom_kills:
            use = memory.of_cgroup()
            limit = f" of {use.limit / 2**30:.2f} GiB" if use else ""
            return f"out of memory: at its limit{limit} the machine killed the kernel"
        names = {number.value: number.name for number in signal.Signals}
        words = f"the kernel was killed by signal {names.get(-code, -code)}"
        return words + self._last_words()

    def _last_words(self) -> str:
        """What the interpreter itself said at the end: no ipykernel, a segmentation fault."""
        try:
            said = self._log.read_text(errors="replace").strip()
        except OSError:
            return ""
        if len(said) > 2 * LAST_WORDS:
            said = f"{said[:LAST_WORDS]}\n…\n{said[-LAST_WORDS:]}"
        return f"; its last words: {said}" if said else ""

    def _fail_requests(self) -> None:
        for request in self._requests.values():
            request.answered(DIED)
            request.went_idle()
