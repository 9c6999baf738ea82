"""The HTTP interface of a sandbox: operations, journal, notebook. openapi.json writes it down."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jupyter_server.base.handlers import APIHandler
from pydantic import ValidationError
from tornado import web

from runner.errors import OperationConflict, SandboxLost
from runner.sandbox.core import Sandbox, versions
from runner.sandbox.journal import SCHEMA
from runner.sandbox.operations import Operation

LONGEST_WAIT_S = 30.0
LINES_LIMIT = 256 * 1024
"""Bytes of an operation's journal lines in one answer."""
JOURNAL_LIMIT = 4 * 1024 * 1024
"""Bytes of journal lines in one answer."""


class Api(APIHandler):
    """What all handlers share: the sandbox, JSON answers, words for every refusal."""

    @property
    def sandbox(self) -> Sandbox:
        """The one sandbox of this server."""
        return self.settings["runner"]  # type: ignore[no-any-return]

    async def prepare(self) -> None:
        """Let in the holder of the token only, whose use keeps the sandbox from idling out."""
        await super().prepare()
        if not self.token_authenticated:
            raise web.HTTPError(403, "this needs the run's token")
        self.sandbox.touch()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every refusal as {"message": …}."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = getattr(error, "log_message", None) or self._reason
        if error is not None and not isinstance(error, web.HTTPError):
            message = f"{type(error).__name__}: {error}"
        self.finish_json({"message": message})

    def finish_json(self, value: Any) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value, separators=(",", ":")))

    def number(self, name: str, default: float, most: float) -> float:
        """A number of the query, between 0 and `most`."""
        text = self.get_query_argument(name, str(default))
        try:
            value = float(text)
        except ValueError:
            raise web.HTTPError(400, f"{name}: expected a number, found {text!r}") from None
        return min(max(value, 0.0), most)

    def lost(self, op: str, error: SandboxLost) -> None:
        """Answer 410, with what the journal of the earlier boot knows of the operation."""
        known = self.sandbox.operations.get(op)
        self.set_status(410)
        self.finish_json(
            {
                "message": str(error),
                "boot": self.sandbox.boot,
                "operation": known.view() | {"outputs": known.outputs} if known else None,
            }
        )

    def conflict(self, error: OperationConflict) -> None:
        """Answer 409."""
        self.set_status(409)
        self.finish_json({"message": str(error)})


class InfoHandler(Api):
    """Who answers here, and how it stands."""

    def get(self) -> None:
        """Boot, kernel, journal, warnings, the phases before the start, versions."""
        box = self.sandbox
        running = [op.id for op in box.operations.values() if op.state == "running"]
        phases = box.options.phases
        self.finish_json(
            {
                "schema": SCHEMA,
                "run_id": box.run_id,
                "boot": box.boot,
                "kernel": {"id": box.kernel.id, "state": box.kernel.state},
                "ready": box.ready_at is not None,
                "spent_s": (
                    asyncio.get_running_loop().time() - box.ready_at if box.ready_at else 0.0
                ),
                "running": running,
                "queued": len(box._queue),
                "journal": {"lines": box.journal.lines, "failure": box.journal.failure},
                "warnings": box.warnings,
                "workspace": str(box.options.workspace),
                "phases": (
                    [json.loads(line) for line in phases.read_text().splitlines()]
                    if phases.exists()
                    else []
                ),
                "versions": versions(),
            }
        )


class OperationHandler(Api):
    """One operation: ask for it, look at it."""

    async def put(self, op: str) -> None:
        """Ask for it. The same request again changes nothing and gets the same answer."""
        boot = self.get_query_argument("boot")
        try:
            body = json.loads(self.request.body)
            operation = self.sandbox.submit(op, boot, body)
        except SandboxLost as error:
            return self.lost(op, error)
        except OperationConflict as error:
            return self.conflict(error)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise web.HTTPError(400, f"{where}: {first['msg']}") from None
        except ValueError as error:
            raise web.HTTPError(400, f"the body is not JSON: {error}") from None
        await self._answer(operation)
        return None

    async def get(self, op: str) -> None:
        """Look at it, waiting for its end or for lines after `after`."""
        await self._answer(self._known(op))

    def _known(self, op: str) -> Operation:
        operation = self.sandbox.operations.get(op)
        if operation is None:
            raise web.HTTPError(404, f"there is no operation {op}")
        return operation

    async def _answer(self, operation: Operation) -> None:
        wait = self.number("wait", 0.0, LONGEST_WAIT_S)
        after = self.get_query_argument("after", None)
        try:
            async with asyncio.timeout(wait):
                if after is None:
                    await operation.done.wait()
                else:
                    await self._new_lines(operation, int(self.number("after", 0, 1e15)))
        except TimeoutError:
            pass
        answer = operation.view() | {"outputs": self.sandbox.outputs(operation)}
        if after is not None:
            answer |= self._lines(operation, int(float(after)))
        answer["warnings"] = self.sandbox.warnings
        self.finish_json(answer)

    async def _new_lines(self, operation: Operation, after: int) -> None:
        changed = self.sandbox.changed
        while not operation.final and not (operation.lines and operation.lines[-1] > after):
            async with changed:
                await changed.wait()

    def _lines(self, operation: Operation, after: int) -> dict[str, Any]:
        lines, size = [], 0
        for number in operation.lines:
            if number > after and size < LINES_LIMIT:
                line = self.sandbox.journal.line(number)
                lines.append(line)
                size += len(str(line))
        last = lines[-1]["seq"] if lines else after
        more = bool(operation.lines) and operation.lines[-1] > last
        return {"lines": lines, "next": last, "more": more}


class InterruptHandler(OperationHandler):
    """Stop one operation."""

    SUPPORTED_METHODS = ("POST",)  # type: ignore[assignment]

    async def post(self, op: str) -> None:
        """Interrupt it, and wait a little for its end; nothing happens to one that has ended."""
        operation = self._known(op)
        await self.sandbox.interrupt(operation)
        await self._answer(operation)


class JournalHandler(Api):
    """The journal, from any line on."""

    async def get(self) -> None:
        """Raw lines after number `after`, waiting for the first of them up to `wait` seconds."""
        after = int(self.number("after", 0, 1e15))
        journal, changed = self.sandbox.journal, self.sandbox.changed
        try:
            async with asyncio.timeout(self.number("wait", 0.0, LONGEST_WAIT_S)):
                while journal.lines <= after:
                    async with changed:
                        await changed.wait()
        except TimeoutError:
            pass
        self.set_header("Content-Type", "application/x-ndjson")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Runner-Boot", self.sandbox.boot)
        self.set_header("Runner-Lines", str(journal.lines))
        self.finish(journal.read(after, JOURNAL_LIMIT))


class NotebookHandler(Api):
    """The notebook as it stands."""

    async def get(self) -> None:
        """The .ipynb."""
        self.set_header("Content-Type", "application/x-ipynb+json")
        self.finish(await asyncio.to_thread(self.sandbox.notebook.render))


class ShutdownHandler(Api):
    """The end."""

    def post(self) -> None:
        """End the sandbox: the journal is flushed, the kernel killed, the process leaves."""
        self.sandbox.ended.set()
        self.set_status(202)
        self.finish_json({})


def handlers(base: str) -> list[tuple[str, type[Api]]]:
    """Routes under the server's base URL."""
    op = r"([A-Za-z0-9._-]{1,128})"
    return [
        (f"{base}runner/v1/info", InfoHandler),
        (f"{base}runner/v1/operations/{op}", OperationHandler),
        (f"{base}runner/v1/operations/{op}/interrupt", InterruptHandler),
        (f"{base}runner/v1/journal", JournalHandler),
        (f"{base}runner/v1/notebook", NotebookHandler),
        (f"{base}runner/v1/shutdown", ShutdownHandler),
    ]
