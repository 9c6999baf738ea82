"""Shell commands as operations: they run beside the kernel, and beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from runner.sandbox.book import Book
from runner.sandbox.operations import Operation
from runner.sandbox.shell import Command


class Commands:
    """The shell commands that run."""

    def __init__(self, book: Book, workspace: Path, env: Mapping[str, str]) -> None:
        self._book, self._workspace, self._env = book, workspace, env
        self.active_at = 0.0
        """Event-loop time of the last output or end."""
        self.running: dict[str, Command | None] = {}
        """By operation; None while it is being started."""

    def submit(self, operation: Operation) -> None:
        """Write down that it runs; `run` does it."""
        self._book.watch(operation)
        self._book.log(operation, "shell", command=operation.source)
        self._book.start(operation)
        self.running[operation.id] = None

    async def run(self, operation: Operation) -> None:
        """Run one to its end."""
        masks = {stream: self._book.mask.stream() for stream in ("stdout", "stderr")}

        def write(stream: str, text: str) -> None:
            self.active_at = asyncio.get_running_loop().time()
            if text:
                self._book.log(operation, "shell_output", stream=stream, text=text)

        def on_text(stream: str, text: str) -> None:
            write(stream, masks[stream].feed(text))

        try:
            command = await Command.start(
                operation.source, self._workspace, self._env, on_text, self._book.journal.pace
            )
            self.running[operation.id] = command
            if operation.interrupting:
                await command.interrupt()
            status = await command.wait()
        except (OSError, ValueError) as error:
            self._book.end(operation, "error", f"the shell did not run it: {error}")
            return
        finally:
            del self.running[operation.id]
            self.active_at = asyncio.get_running_loop().time()
        for stream, mask in masks.items():
            write(stream, mask.flush())
        state = "interrupted" if operation.interrupting else "error" if status else "ok"
        reason = "interrupted" if operation.interrupting else f"exit status {status}"
        reason = command.killed or (reason if status or operation.interrupting else "")
        self._book.end(operation, state, reason, exit=status)

    async def interrupt(self, operation: Operation) -> None:
        """Stop one; its whole process group gets SIGINT, and SIGKILL after 5 s."""
        if command := self.running.get(operation.id):
            await command.interrupt()

    def kill_all(self) -> None:
        """End them at once."""
        for command in self.running.values():
            if command is not None:
                command.kill("the sandbox was stopped")
