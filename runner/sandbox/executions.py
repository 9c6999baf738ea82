"""Code that runs in the kernel: the queue, the kernel's messages, restarts and deaths."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.masking import StreamMask
from runner.sandbox.book import Book
from runner.sandbox.kernel import Kernel
from runner.sandbox.messages import Message, Reply
from runner.sandbox.operations import Operation
from runner.sandbox.options import Options

HELD_TEXT_S = 5.0
"""How long the end of a piece of output that may be half a secret waits for its other half."""
HEEDS_S, KILLED_S = 5.0, 30.0
"""After how long an interrupt that changes nothing is told of, and after how long the kernel is
killed for it: a long call into C heeds it at its end, code that ignores it never does."""
DEAD = "the kernel is not running ({}). Variables are gone, files are still there; restart it"
RESTARTED = "the kernel was restarted; all variables are gone, files are still there"
RELOADING = "; models are loaded into it again, which the next cell waits for"
_INTERRUPTED = ("KeyboardInterrupt", "CancelledError")


class Executions:
    """One kernel and its queue: code runs in the order in which it came."""

    def __init__(self, book: Book, options: Options, env: Mapping[str, str]) -> None:
        self._book = book
        self.ready_at: float | None = None
        """Event-loop time at which the kernel was first ready."""
        self.active_at = 0.0
        """Event-loop time of the kernel's last sign of life."""
        self._preload = options.preload
        self.preloading: Operation | None = None
        """What has been run in this kernel before anything else, or is."""
        self.running: Operation | None = None
        self.queue: deque[Operation] = deque()
        self._messages: dict[str, Operation] = {}
        self._held: dict[tuple[str, str], StreamMask[str]] = {}
        self._queued = asyncio.Event()
        self._restarting = asyncio.Lock()
        entry = Path(__file__).with_name("kernel_main.py")
        self.kernel = Kernel(
            [str(options.python), str(entry), "-f", "{connection_file}"],
            options.runtime,
            options.state / "kernel.log",
            options.workspace,
            env,
            self._on_message,
            self._on_death,
            book.journal.pace,
        )

    def submit(self, operation: Operation) -> None:
        """Put it into the queue; `source` says what is run."""
        if operation.cell is None:
            self._book.watch(operation)
        fields = {"source": operation.source, "hidden": operation.hidden}
        self._book.log(operation, "queued", **fields)
        self.queue.append(operation)
        self._queued.set()

    async def interrupt(self, operation: Operation) -> None:
        """Stop one operation of this queue."""
        if operation in self.queue:
            self.queue.remove(operation)
            self._book.end(operation, "interrupted", "interrupted before it started")
        elif operation is self.running and operation.state == "queued":
            self._book.end(operation, "interrupted", "interrupted before it started")
        elif operation is self.running:
            self._book.note("kernel", event="interrupted", reason=f"asked for {operation.id}")
            await self.kernel.interrupt()

    async def insist(self, operation: Operation) -> None:
        """See to it that an interrupt ends what runs: at last the kernel is killed."""
        if await _ends(operation, HEEDS_S) or operation is not self.running:
            return
        self._book.warn(
            f"{operation.id} has not heeded the interrupt for {HEEDS_S:g} s; if it does not within "
            f"{KILLED_S - HEEDS_S:g} s, the kernel is killed, and all variables are gone then"
        )
        await self.kernel.interrupt()
        if not await _ends(operation, KILLED_S - HEEDS_S) and operation is self.running:
            await self.kernel.kill(f"it ignored an interrupt for {KILLED_S:g} s, and was killed")

    async def run(self) -> None:
        """Start the kernel, and run what is in the queue, for as long as the sandbox lives."""
        async with self._restarting:
            await self._start("the sandbox started")
        while True:
            while not self.queue:
                self._queued.clear()
                await self._queued.wait()
            self.running = self.queue.popleft()
            try:
                await self._execute(self.running)
            except Exception as error:
                # A request that the kernel's client cannot even send (text that is no Unicode).
                self._book.end(self.running, "error", f"{type(error).__name__}: {error}")
            finally:
                self.running = None

    async def restart(self, operation: Operation) -> None:
        """Kill the kernel and start another one; whatever ran or waited has ended."""
        async with self._restarting:
            self._book.start(operation)
            waiting = [self.running, *self.queue] if self.running else [*self.queue]
            self.queue.clear()
            for other in waiting:
                self._book.end(other, "restarted", RESTARTED)
            await self.kernel.stop(starting=True)
            self._release_all()
            self._book.note("kernel", event="restarted", reason=f"asked for by {operation.id}")
            await self._start("restarted")
            if self.kernel.state == "dead":
                self._book.end(operation, "error", f"no kernel: {self.kernel.reason}")
            else:
                self._book.end(operation, "ok", RESTARTED + (RELOADING if self._preload else ""))

    async def _start(self, why: str) -> None:
        if await self.kernel.start():
            self._book.note("kernel", event="started", reason=why, kernel=self.kernel.id)
            self.active_at = asyncio.get_running_loop().time()
            if self.ready_at is None:
                self.ready_at = self.active_at
            if self._preload:
                self._submit_preload()
        self._book.changed.pulse()

    def _submit_preload(self) -> None:
        op = f"preload-{self.kernel.id}"
        operation = self.preloading = self._book.open(op, "execute", "")
        operation.source, operation.hidden = self._preload, True
        waiting = list(self.queue)
        self.queue.clear()
        self.submit(operation)
        self.queue += waiting

    async def _execute(self, operation: Operation) -> None:
        await self._book.changed.until(lambda: self.kernel.state != "starting" or operation.final)
        if operation.final:
            return None
        if self.kernel.state == "dead":
            return self._book.end(operation, "kernel_died", DEAD.format(self.kernel.reason))
        self._book.start(operation)
        msg_ids: list[str] = []

        def begin(msg_id: str) -> None:
            msg_ids.append(msg_id)
            self._messages[msg_id] = operation

        try:
            reply = await self.kernel.execute(operation.source, begin, hidden=operation.hidden)
        finally:
            for msg_id in msg_ids:
                self._release(msg_id)
                self._messages.pop(msg_id, None)
        self.active_at = asyncio.get_running_loop().time()
        return self._end(operation, reply)

    def _end(self, operation: Operation, reply: Reply) -> None:
        end, count = self._book.end, reply.execution_count
        if reply.status == "died":
            end(operation, "kernel_died", self.kernel.reason)
        elif reply.status == "ok":
            end(operation, "ok", count=count)
        elif operation.interrupting and (
            reply.ename in _INTERRUPTED or reply.status in ("aborted", "abort")
        ):
            end(operation, "interrupted", "interrupted", count=count)
        else:
            end(operation, "error", reply.ename or reply.status, count=count)
            if operation is self.preloading:
                self._book.warn(f"models could not be loaded into the kernel: {reply.ename}")

    def _on_death(self, reason: str) -> None:
        self._release_all()
        self._book.note("kernel", event="died", reason=reason)
        if self.running and self.running.state == "running":
            self._book.end(self.running, "kernel_died", reason)
        for operation in self.queue:
            self._book.end(operation, "kernel_died", DEAD.format(reason))
        self.queue.clear()

    # -- the kernel's messages -------------------------------------------------------------

    def _on_message(self, parent: str, message: Message) -> None:
        loop = asyncio.get_running_loop()
        self.active_at = loop.time()
        kind, content = message["msg_type"], message["content"]
        if kind != "stream":
            self._release(parent)
            return self._log(parent, kind, content, message["metadata"])
        key = (parent, str(content["name"]))
        mask = self._held.pop(key, None) or self._book.mask.stream()
        text = mask.feed(str(content["text"]))
        if mask.holds:
            self._held[key] = mask
            loop.call_later(HELD_TEXT_S, self._release_if, key, mask)
        if text:
            self._log(parent, kind, {"name": key[1], "text": text}, {})
        return None

    def _log(self, parent: str, kind: str, content: Any, metadata: Any) -> None:
        operation = self._messages.get(parent)
        fields = {"msg_type": kind, "content": content, "metadata": metadata}
        if operation and not operation.final:
            self._book.log(operation, "message", **fields)
        else:
            self._book.note("message", op=None, cell=None, **fields)

    def _release(self, parent: str) -> None:
        """Let go of text that was held back, since what follows it is something else."""
        for key in [key for key in self._held if key[0] == parent]:
            self._release_if(key, self._held[key])

    def _release_all(self) -> None:
        for key, mask in list(self._held.items()):
            self._release_if(key, mask)

    def _release_if(self, key: tuple[str, str], mask: StreamMask[str]) -> None:
        """Let go of it, if it is this very text that is still held."""
        if self._held.get(key) is mask:
            del self._held[key]
            self._log(key[0], "stream", {"name": key[1], "text": mask.flush()}, {})


async def _ends(operation: Operation, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await operation.done.wait()
    return operation.final
