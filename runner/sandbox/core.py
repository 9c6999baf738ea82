"""One sandbox: what a client asks for is checked, done once, and written down."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from runner.masking import Mask
from runner.plain import open_plain
from runner.sandbox import operations as ops
from runner.sandbox import processes
from runner.sandbox.book import Book
from runner.sandbox.calls import Channels
from runner.sandbox.commands import Commands
from runner.sandbox.edits import edit
from runner.sandbox.executions import Executions
from runner.sandbox.meter import Meter
from runner.sandbox.operations import Operation
from runner.sandbox.options import Options
from runner.sandbox.seen import remembered


class Sandbox:
    """A kernel, a shell and the book that is kept of them.

    Every change goes through `submit`. Runs on one event loop. Cells run in
    the order in which they came; shell commands run beside them.
    """

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self.options = options
        self.run_id, self.name = options.run_id, options.name
        values = {environ[name] for name in options.secrets if environ.get(name)}
        self.mask = Mask(remembered(options.seen, values) if options.seen else values)
        self.book = Book(options.journal, self.mask)
        self.boot, self.journal, self.notebook = (
            self.book.boot,
            self.book.journal,
            self.book.notebook,
        )
        self.changed = self.book.changed
        env = _child_env(options, environ)
        self.executions = Executions(self.book, options, env)
        self.commands = Commands(self.book, options.workspace, env)
        self.channels = Channels(self.book.note)
        self.phases = [json.loads(line) for line in _noted(options.phases)]
        self.environment = json.loads("".join(_noted(options.environment)) or "{}")
        self.full = ""
        """Why no cell may run and no file be uploaded (the disk), or empty."""
        self.gpus: Meter | None = None
        """What is known of the GPUs' use, once the kernel is ready; None without GPUs."""
        self.gpus_unused = ""
        """Why the run is to be wound up, when its GPUs were not used for too long, or empty."""
        self.touched_at = asyncio.get_running_loop().time()
        self.ended = asyncio.Event()
        """Set when the sandbox is to end by itself."""
        self.crash: BaseException | None = None
        """What went wrong in a part that the sandbox cannot do without."""
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up an earlier boot's journal, and start the kernel; both go on meanwhile."""
        processes.end_all(self.options.state)
        self.book.take_up()
        self.spawn(self.executions.run())
        self.spawn(self.journal.keep_synced())

    async def stop(self, reason: str) -> None:
        """End everything at once; what was running is lost, and the journal says so."""
        for operation in list(self.book.operations.values()):
            self.book.end(operation, "lost", reason)
        for task in list(self._tasks):
            task.cancel()
        self.commands.kill_all()
        await self.executions.kernel.stop()
        processes.end_all(self.options.state)
        self.journal.close()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a part of the sandbox for as long as it lives; if it fails, the sandbox ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.crash = self.crash or error
            self.ended.set()

    def touch(self) -> None:
        """Somebody uses this sandbox."""
        self.touched_at = asyncio.get_running_loop().time()

    @property
    def unattended_s(self) -> float:
        """Seconds since anybody used this sandbox."""
        return asyncio.get_running_loop().time() - self.touched_at

    @property
    def active_at(self) -> float:
        """Event-loop time of the last use, or the last output."""
        return max(self.touched_at, self.ran_at)

    @property
    def ran_at(self) -> float:
        """Event-loop time at which a cell or a command last gave a sign of life."""
        return max(self.executions.active_at, self.commands.active_at)

    @property
    def ready_at(self) -> float | None:
        """Event-loop time at which the kernel was ready: the run's timeout counts from here."""
        return self.executions.ready_at

    @property
    def busy(self) -> bool:
        """Whether a cell or a command runs or waits to."""
        return bool(self.executions.running or self.executions.queue or self.commands.running)

    @property
    def kernel_state(self) -> str:
        """starting, idle, busy or dead."""
        return self.executions.kernel.state

    # -- operations ------------------------------------------------------------------------

    def submit(self, op: str, boot: str, body: dict[str, Any]) -> Operation:
        """Do what is asked, once.

        Raises ValueError (pydantic's) for a request that is none, SandboxLost
        and OperationConflict as `Book.find` does.
        """
        request = ops.REQUEST.validate_python(body)
        # Masked, as an agent has it that is resumed and asks again.
        digest = ops.digest(self.mask.tree(body))
        if known := self.book.find(op, boot, digest):
            return known
        operation = self.book.open(op, request.kind, digest)
        match request:
            case ops.Execute():
                self._execute(operation, request)
            case ops.Shell():
                operation.source = request.command
                self.commands.submit(operation)
                self.spawn(self.commands.run(operation))
            case ops.Restart():
                self.spawn(self.executions.restart(operation))
            case ops.InsertCell():
                self._insert(operation, request.cell_type, request.source, request.index)
                self.book.end(operation, "ok")
            case _:
                self._edit(operation, request)
        return operation

    async def interrupt(self, operation: Operation) -> None:
        """Stop one operation; nothing happens to one that has ended."""
        if operation.final:
            return
        insisting, operation.interrupting = operation.interrupting, True
        if operation.kind == "shell":
            await self.commands.interrupt(operation)
            return
        await self.executions.interrupt(operation)
        if not insisting:
            self.spawn(self.executions.insist(operation))

    def _execute(self, operation: Operation, request: ops.Execute) -> None:
        operation.hidden = request.hidden
        if self.full:
            return self.book.end(operation, "error", self.full)
        if request.cell is None:
            operation.source = request.source or ""
            if not request.hidden:
                self._insert(operation, "code", operation.source, None)
        elif (cell := self.notebook.cells.get(request.cell)) is None:
            return self.book.end(operation, "error", f"there is no cell {request.cell}")
        elif cell.cell_type != "code":
            return self.book.end(operation, "error", f"cell {cell.id} holds no code")
        else:
            operation.cell, operation.source = cell.id, cell.source
        return self.executions.submit(operation)

    def _insert(self, operation: Operation, cell_type: str, source: str, index: int | None) -> None:
        while operation.cell is None or operation.cell in self.notebook.cells:
            operation.cell = uuid.uuid4().hex[:8]
        fields = {"cell_type": cell_type, "source": source, "index": index}
        self.book.log(operation, "cell", action="insert", **fields)

    def _edit(
        self, operation: Operation, request: ops.EditCell | ops.ReplaceCell | ops.DeleteCell
    ) -> None:
        made = edit(self.notebook, request)
        if made.refusal:
            return self.book.end(operation, "error", made.refusal)
        operation.cell, operation.diff = request.cell, self.mask(made.diff)
        if made.source is None:
            self.book.log(operation, "cell", action="delete")
        else:
            self.book.log(operation, "cell", action="replace", source=made.source)
        return self.book.end(operation, "ok")


def _noted(path: Path) -> list[str]:
    """The lines that were written down before the server started, if that is still what is there.

    Read once, as code of the experiment can put something else in their place.
    """
    try:
        with open_plain(path) as file:
            return file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _child_env(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment as the kernel and the shell get it, with the kernel's Python."""
    env = {**environ, **options.env}
    env["PATH"] = os.pathsep.join([str(options.python.parent), env.get("PATH", os.defpath)])
    env["VIRTUAL_ENV"] = str(options.python.parent.parent)
    own = [options.env["PYTHONPATH"]] if "PYTHONPATH" in options.env else []
    env.pop("PYTHONPATH", None)
    if paths := [*map(str, options.import_paths), *own]:
        env["PYTHONPATH"] = os.pathsep.join(paths)
    env.pop("PYTHONHOME", None)
    # Without it the kernel begins with a warning of its debugger about frozen modules.
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    env[processes.MARK] = str(options.state)
    return env
