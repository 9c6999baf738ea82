"""One sandbox: its kernel, notebook, journal and operations, in one place that owns them all."""

from __future__ import annotations

import asyncio
import difflib
import os
import platform
import uuid
from collections import deque
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runner.errors import OperationConflict, SandboxLost
from runner.masking import Mask, StreamMask
from runner.notebook import Notebook
from runner.sandbox import operations as ops
from runner.sandbox.journal import SCHEMA, Journal, now
from runner.sandbox.kernel import Kernel, Message
from runner.sandbox.operations import Operation
from runner.sandbox.options import Options
from runner.sandbox.shell import Command

HELD_TEXT_S = 0.2
"""How long the end of a piece of output that may be half a secret waits for its other half."""
DEAD = "the kernel is not running ({}). Variables are gone, files are still there; restart it"


class Changed(asyncio.Condition):
    """Wakes everybody who waits for the notebook or an operation to change."""

    _due = False

    def pulse(self) -> None:
        """Notify soon, once for many changes."""
        if not self._due:
            self._due = True
            self._task = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        self._due = False
        async with self:
            self.notify_all()


class Sandbox:
    """Owns the notebook; every change to it goes through `submit`.

    Runs on one event loop. One queue per kernel: cells run in the order in
    which they came; shell commands run beside them.
    """

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self.options = options
        self.run_id, self.name = options.run_id, options.name
        self.boot = uuid.uuid4().hex[:16]
        self.mask = Mask(environ[name] for name in options.secrets if environ.get(name))
        self.env = _kernel_env(options, environ)
        self.journal = Journal(options.journal, self.boot, self.mask)
        self.notebook = Notebook()
        self.operations: dict[str, Operation] = {}
        self.changed = Changed()
        self.warnings: list[str] = []
        self.full = ""
        """Why nothing new may run (the disk), or empty."""
        self.ready_at: float | None = None
        """Event-loop time at which the kernel was ready: the run's timeout counts from here."""
        self.active_at = asyncio.get_running_loop().time()
        """When somebody last used this sandbox, or its kernel last said something."""
        self.ended = asyncio.Event()
        """Set when the sandbox is to end by itself."""
        self._death = "it has not started"
        self._running: Operation | None = None
        self._queue: deque[Operation] = deque()
        self._queued = asyncio.Event()
        self._messages: dict[str, Operation] = {}
        self._folds: dict[str, Notebook] = {}
        self._held: dict[tuple[str, str], StreamMask] = {}
        self._commands: dict[str, Command] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.kernel = Kernel(
            [
                str(options.python),
                str(Path(__file__).with_name("kernel_main.py")),
                "-f",
                "{connection_file}",
            ],
            options.runtime,
            options.workspace,
            self.env,
            self._on_message,
            self._on_death,
        )
        self._replay()

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the kernel; it gets ready while the server's own imports go on."""
        await self.kernel.start()
        self.spawn(self._get_ready("the sandbox started"))
        self.spawn(self._run_queue())
        self.spawn(self.journal.keep_synced())

    async def stop(self, reason: str) -> None:
        """End everything at once; what was running is lost, and the journal says so."""
        for operation in list(self.operations.values()):
            if not operation.final:
                self._end(operation, "lost", reason)
        for command in list(self._commands.values()):
            command.signal(9)  # type: ignore[arg-type]
        for task in list(self._tasks):
            task.cancel()
        await self.kernel.stop()
        self.journal.close()

    def spawn(self, work: Any) -> None:
        """Run a coroutine for as long as the sandbox lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def touch(self) -> None:
        """Somebody uses this sandbox."""
        self.active_at = asyncio.get_running_loop().time()

    @property
    def busy(self) -> bool:
        """Whether a cell or a command runs or waits to."""
        return bool(self._running or self._queue or self._commands)

    @property
    def kernel_state(self) -> str:
        """starting, idle, busy or dead."""
        return self.kernel.state

    def warn(self, text: str) -> None:
        """Tell whoever drives this sandbox, once, and write it down."""
        self.warnings.append(text)
        self.journal.append("warning", text=text)
        self.changed.pulse()

    def commands(self) -> list[int]:
        """Process groups of the shell commands that run."""
        return [command.pid for command in self._commands.values()]

    # -- operations ------------------------------------------------------------------------

    def find(self, op: str, boot: str, digest: str) -> Operation | None:
        """The operation of that id, if this very request was made before.

        Raises SandboxLost when another boot was meant, OperationConflict when
        the id was used for another request.
        """
        known = self.operations.get(op)
        if boot != self.boot or (known and known.boot != self.boot):
            raise SandboxLost(
                f"the sandbox that was asked (boot {boot}) is gone; this one is {self.boot}"
            )
        if known and known.hash != digest:
            raise OperationConflict(f"operation {op} was used for another request already")
        return known

    def submit(self, op: str, boot: str, body: dict[str, Any]) -> Operation:
        """Do what is asked, once.

        Raises ValueError (pydantic's) for a request that is none, SandboxLost
        and OperationConflict as `find` does.
        """
        request = ops.REQUEST.validate_python(body)
        digest = ops.digest(body)
        if known := self.find(op, boot, digest):
            return known
        operation = Operation(op, request.kind, self.boot, digest, queued=now())
        self.operations[op] = operation
        match request:
            case ops.Execute():
                self._accept(operation, request)
            case ops.Shell():
                operation.source = request.command
                self._log(operation, "shell", command=request.command)
                self.spawn(self._run_shell(operation))
            case ops.Restart():
                self.spawn(self._restart(operation))
            case _:
                self._edit(operation, request)
        return operation

    def finish(self, operation: Operation, state: str, reason: str = "", **fields: Any) -> None:
        """End an operation that was done elsewhere (a file that was written)."""
        self._end(operation, state, reason, **fields)

    async def interrupt(self, operation: Operation) -> None:
        """Stop one operation; nothing happens to one that has ended."""
        if operation.final:
            return
        operation.interrupting = True
        if operation in self._queue:
            self._queue.remove(operation)
            self._end(operation, "interrupted", "interrupted before it started")
        elif command := self._commands.get(operation.id):
            self.spawn(command.interrupt())
        elif operation is self._running:
            self.journal.append("kernel", event="interrupted", reason=f"asked for {operation.id}")
            await self.kernel.interrupt()

    def outputs(self, operation: Operation) -> list[dict[str, Any]]:
        """nbformat outputs of an operation, as far as it is."""
        if operation.final:
            return operation.outputs
        fold, cell = self._fold(operation)
        return list(fold.cells[cell].outputs) if cell in fold.cells else []

    # -- executions ------------------------------------------------------------------------

    def _accept(self, operation: Operation, request: ops.Execute) -> None:
        if self.full:
            return self._end(operation, "error", self.full)
        operation.hidden = request.hidden
        if request.cell is not None:
            cell = self.notebook.cells.get(request.cell)
            if cell is None:
                return self._end(operation, "error", f"there is no cell {request.cell}")
            operation.cell, operation.source = cell.id, cell.source
        else:
            operation.source = request.source or ""
            if not request.hidden:
                operation.cell = self._insert(operation, "code", operation.source, None)
        if operation.cell is None:
            fold = self._folds[operation.id] = Notebook()
            fold.apply(_cell_line(operation.id, operation.source))
        self._log(operation, "queued", source=operation.source, hidden=request.hidden)
        self._queue.append(operation)
        self._queued.set()
        return None

    async def _run_queue(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                operation = self._running = self._queue.popleft()
                try:
                    await self._execute(operation)
                finally:
                    self._running = None

    async def _execute(self, operation: Operation) -> None:
        while self.kernel.state == "starting":
            async with self.changed:
                await self.changed.wait()
        if operation.final:
            return
        if self.kernel.state == "dead":
            return self._end(operation, "kernel_died", DEAD.format(self._death))
        operation.state, operation.started = "running", now()
        self._log(operation, "start")
        msg_ids: list[str] = []

        def begin(msg_id: str) -> None:
            msg_ids.append(msg_id)
            self._messages[msg_id] = operation

        reply = await self.kernel.execute(operation.source, begin)
        for msg_id in msg_ids:
            self._release(msg_id)
            self._messages.pop(msg_id, None)
        self.touch()
        if operation.final:
            return
        if reply.status == "died":
            self._end(operation, "kernel_died", self._death)
        elif reply.status == "ok":
            self._end(operation, "ok", count=reply.execution_count)
        elif operation.interrupting and reply.ename == "KeyboardInterrupt":
            self._end(operation, "interrupted", "interrupted", count=reply.execution_count)
        else:
            self._end(operation, "error", reply.ename, count=reply.execution_count)

    async def _get_ready(self, reason: str) -> None:
        try:
            await self.kernel.wait_ready()
        except (TimeoutError, RuntimeError) as error:
            self.kernel.state = "dead"
            self._death = str(error) or "it did not answer in time"
            self.journal.append("kernel", event="died", reason=self._death)
        else:
            self.journal.append("kernel", event="started", reason=reason, kernel=self.kernel.id)
            if self.ready_at is None:
                self.ready_at = asyncio.get_running_loop().time()
        self.changed.pulse()

    async def _restart(self, operation: Operation) -> None:
        operation.state, operation.started = "running", now()
        reason = "the kernel was restarted; all variables are gone, files are still there"
        for other in [*([self._running] if self._running else []), *self._queue]:
            self._end(other, "restarted", reason)
        self._queue.clear()
        await self.kernel.stop()
        await self.kernel.start()
        self.journal.append("kernel", event="restarted", reason="asked for")
        await self._get_ready("restarted")
        if self.kernel.state == "dead":
            self._end(operation, "error", self._death)
        else:
            self._end(operation, "ok", reason)

    def _on_death(self, reason: str) -> None:
        self._death = reason
        self.journal.append("kernel", event="died", reason=reason)
        for operation in self._queue:
            self._end(operation, "kernel_died", DEAD.format(reason))
        self._queue.clear()
        self.changed.pulse()

    # -- the kernel's messages -------------------------------------------------------------

    def _on_message(self, parent: str, message: Message) -> None:
        self.active_at = asyncio.get_running_loop().time()
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            key = (parent, content["name"])
            held = self._held.setdefault(key, self.mask.stream())
            text = held.feed(content["text"])
            if held.holds:
                asyncio.get_running_loop().call_later(HELD_TEXT_S, self._release, parent)
            if text:
                self._message(parent, kind, {"name": content["name"], "text": text}, {})
            return
        self._release(parent)
        self._message(parent, kind, content, message["metadata"])

    def _message(
        self, parent: str, kind: str, content: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        operation = self._messages.get(parent)
        if operation and not operation.final:
            self._log(
                operation, "message", msg_type=kind, content=content, metadata=metadata
            )
        else:
            line = self.journal.append(
                "message", op=None, cell=None, msg_type=kind, content=content, metadata=metadata
            )
            self.notebook.apply(line)
            self.changed.pulse()

    def _release(self, parent: str) -> None:
        """Let go of text that was held back, since what follows it is something else."""
        for key in [key for key in self._held if key[0] == parent]:
            if text := self._held.pop(key).flush():
                self._message(parent, "stream", {"name": key[1], "text": text}, {})

    # -- shell -----------------------------------------------------------------------------

    async def _run_shell(self, operation: Operation) -> None:
        if self.full:
            return self._end(operation, "error", self.full)
        operation.state, operation.started = "running", now()
        fold = self._folds[operation.id] = Notebook()
        fold.apply(_cell_line(operation.id, operation.source))
        fold.apply({"type": "start", "op": operation.id, "cell": operation.id, "time": now()})
        masks = {"stdout": self.mask.stream(), "stderr": self.mask.stream()}

        def on_text(stream: str, text: str) -> None:
            self.active_at = asyncio.get_running_loop().time()
            if text := masks[stream].feed(text):
                self._log(operation, "shell_output", stream=stream, text=text)

        try:
            command = await Command.start(
                operation.source, self.options.workspace, self.env, on_text
            )
        except (OSError, ValueError) as error:
            return self._end(operation, "error", f"the shell did not start: {error}")
        self._commands[operation.id] = command
        status = await command.wait()
        del self._commands[operation.id]
        for stream, mask in masks.items():
            if text := mask.flush():
                self._log(operation, "shell_output", stream=stream, text=text)
        if operation.interrupting:
            self._end(operation, "interrupted", "interrupted", exit=status)
        elif status:
            self._end(operation, "error", f"exit status {status}", exit=status)
        else:
            self._end(operation, "ok", exit=status)
        return None

    # -- cells -----------------------------------------------------------------------------

    def _edit(
        self,
        operation: Operation,
        request: ops.InsertCell | ops.EditCell | ops.ReplaceCell | ops.DeleteCell,
    ) -> None:
        if isinstance(request, ops.InsertCell):
            operation.cell = self._insert(
                operation, request.cell_type, request.source, request.index
            )
            return self._end(operation, "ok")
        cell = self.notebook.cells.get(request.cell)
        if cell is None:
            return self._end(operation, "error", f"there is no cell {request.cell}")
        operation.cell = cell.id
        if cell.state in ("queued", "running"):
            return self._end(operation, "error", f"cell {cell.id} is {cell.state}; interrupt it")
        if isinstance(request, ops.DeleteCell):
            self._log(operation, "cell", action="delete")
            return self._end(operation, "ok")
        if isinstance(request, ops.EditCell):
            times = cell.source.count(request.old)
            if times != 1:
                return self._end(
                    operation,
                    "error",
                    f"the old text occurs {times} times in cell {cell.id}; it must occur once",
                )
            source = cell.source.replace(request.old, request.new)
        else:
            source = request.source
        before = cell.source
        self._log(operation, "cell", action="replace", source=source)
        operation.result["diff"] = "".join(
            difflib.unified_diff(
                before.splitlines(keepends=True), source.splitlines(keepends=True), "before", "after"
            )
        )
        return self._end(operation, "ok")

    def _insert(
        self, operation: Operation, cell_type: str, source: str, index: int | None
    ) -> str:
        operation.cell = uuid.uuid4().hex[:8]
        self._log(
            operation, "cell", action="insert", cell_type=cell_type, source=source, index=index
        )
        return operation.cell

    # -- writing down ----------------------------------------------------------------------

    def _log(self, operation: Operation, type: str, **fields: Any) -> None:  # noqa: A002
        line = self.journal.append(type, op=operation.id, cell=operation.cell, **fields)
        operation.lines.append(line["seq"])
        self._apply(operation, line)
        self.changed.pulse()

    def _apply(self, operation: Operation, line: dict[str, Any]) -> None:
        """Let the notebook know, and for what has no cell, its own small one."""
        self.notebook.apply(line)
        if fold := self._folds.get(operation.id):
            line = {**line, "cell": operation.id}
            if line["type"] == "shell_output":
                content = {"name": line["stream"], "text": line["text"]}
                line |= {"type": "message", "msg_type": "stream", "content": content}
                line["metadata"] = {}
            fold.apply(line)

    def _fold(self, operation: Operation) -> tuple[Notebook, str]:
        if fold := self._folds.get(operation.id):
            return fold, operation.id
        return self.notebook, operation.cell or ""

    def _end(
        self,
        operation: Operation,
        state: str,
        reason: str = "",
        *,
        count: int | None = None,
        exit: int | None = None,  # noqa: A002
    ) -> None:
        if operation.final:
            return
        operation.execution_count, operation.exit = count, exit
        self._log(
            operation, "end", state=state, reason=reason, execution_count=count, exit=exit
        )
        operation.outputs = self.outputs(operation)
        operation.state, operation.reason, operation.ended = state, self.mask(reason), now()
        self._folds.pop(operation.id, None)
        operation.done.set()

    def _replay(self) -> None:
        """Take up the journal that an earlier boot left, and say what was lost with it."""
        open_ops: dict[str, Operation] = {}
        for line in self.journal.replay():
            self.notebook.apply(line)
            op = line.get("op")
            if op is None:
                continue
            operation = self.operations.get(op)
            if operation is None:
                operation = Operation(op, line["type"], line["boot"], queued=line["time"])
                self.operations[op] = open_ops[op] = operation
            operation.lines.append(line["seq"])
            operation.cell = line.get("cell") or operation.cell
            if line["type"] == "end":
                operation.state, operation.reason = line["state"], line["reason"]
                operation.execution_count = line.get("execution_count")
                operation.exit, operation.ended = line.get("exit"), line["time"]
                if operation.cell in self.notebook.cells:
                    operation.outputs = list(self.notebook.cells[operation.cell].outputs)
                operation.done.set()
                open_ops.pop(op, None)
        earlier = self.journal.lines
        self.journal.append("boot", schema=SCHEMA, versions=versions())
        for operation in open_ops.values():
            self._end(operation, "lost", "the sandbox was restarted while this ran")
        if earlier:
            self.warn(
                "the sandbox was restarted: a new kernel runs, all variables are gone, "
                "files are still there"
            )


def versions() -> dict[str, str]:
    """What this server is made of."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("runner", "jupyter_server", "jupyter_client")},
    }


def _cell_line(cell: str, source: str) -> dict[str, Any]:
    return {
        "type": "cell",
        "action": "insert",
        "cell": cell,
        "cell_type": "code",
        "source": source,
        "index": None,
        "time": now(),
    }


def _kernel_env(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment as the kernel and the shell get it, with the kernel's Python."""
    env = dict(environ)
    env["PATH"] = os.pathsep.join([str(options.python.parent), env.get("PATH", os.defpath)])
    env["VIRTUAL_ENV"] = str(options.python.parent.parent)
    if options.import_paths:
        env["PYTHONPATH"] = os.pathsep.join(map(str, options.import_paths))
    env.pop("PYTHONHOME", None)
    # Without it the kernel begins with a warning of its debugger about frozen modules.
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    return env
