"""The HTTP interface of a sandbox: operations, journal, notebook. openapi.json writes it down."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from pydantic import ValidationError
from tornado import web

from runner.errors import OperationConflict, SandboxLost
from runner.sandbox.core import Sandbox
from runner.sandbox.journal import SCHEMA
from runner.sandbox.operations import Operation
from runner.sandbox.replay import versions

OPENAPI = Path(__file__).with_name("openapi.json")
OPERATION_ID = r"[A-Za-z0-9._-]{1,128}"
LONGEST_WAIT_S = 30.0
LINES_LIMIT = 256 * 1024
"""Bytes of an operation's journal lines in one answer."""
MOST_LINES = 1e15
JOURNAL_LIMIT = 4 * 1024 * 1024
"""Bytes of journal lines in one answer."""


class Api(APIHandler):
    """What all handlers share: the sandbox, JSON answers, words for every refusal."""

    @property
    def sandbox(self) -> Sandbox:
        """The one sandbox of this server."""
        return self.settings["runner"]  # type: ignore[no-any-return]

    async def prepare(self) -> None:  # type: ignore[override]
        """Let in the holder of the token only, whose use keeps the sandbox from idling out."""
        await super().prepare()
        if not self.token_authenticated:
            raise web.HTTPError(403, "this needs the run's token")
        self.sandbox.touch()

    def get_login_url(self) -> str:
        """There is none: whoever is not known is refused."""
        raise web.HTTPError(403, "this needs the run's token")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every refusal as {"message": …}."""
        del status_code  # tornado has set it
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = getattr(error, "log_message", None) or self._reason
        if error is not None and not isinstance(error, web.HTTPError):
            message = f"{type(error).__name__}: {error}"
        self.finish_json({"message": message})

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Keep the content type: Jupyter would call every answer JSON."""
        kwargs.setdefault("set_content_type", self._headers["Content-Type"])
        return super().finish(*args, **kwargs)

    def finish_json(self, value: Any) -> None:
        """Answer with JSON."""
        self.json_headers()
        self.finish(json.dumps(value, separators=(",", ":")))

    def json_headers(self) -> None:
        """Say that the answer is JSON, of this moment."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")

    def number(self, name: str, default: float, most: float) -> float:
        """A number of the query, between 0 and `most`."""
        text = self.get_query_argument(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise web.HTTPError(400, f"{name}: expected a number, found {text!r}")
        return min(max(value, 0.0), most)

    def check_id(self, op: str) -> None:
        """Refuse what is no operation's id."""
        if not re.fullmatch(OPERATION_ID, op):
            raise web.HTTPError(400, f"operation: expected {OPERATION_ID}, found {op!r}")

    async def lost(self, op: str, error: SandboxLost) -> None:
        """Answer 410, with what the journal of the earlier boot knows of the operation."""
        book = self.sandbox.book
        known = book.operations.get(op)
        answer = known.view() | {"outputs": await book.outputs(known)} if known else None
        self.set_status(410)
        self.finish_json({"message": str(error), "boot": book.boot, "operation": answer})

    def conflict(self, error: OperationConflict) -> None:
        """Answer 409."""
        self.set_status(409)
        self.finish_json({"message": str(error)})


class InfoHandler(Api):
    """Who answers here, and how it stands."""

    def get(self) -> None:
        """Boot, kernel, journal, warnings, the phases before the start, versions."""
        box = self.sandbox
        kernel, preloading = box.executions.kernel, box.executions.preloading
        running = [op.id for op in box.book.operations.values() if op.state == "running"]
        self.finish_json(
            {
                "schema": SCHEMA,
                "run_id": box.run_id,
                "boot": box.boot,
                "kernel": {
                    "id": kernel.id,
                    "state": kernel.state,
                    "reason": box.mask(kernel.reason),
                },
                "ready": box.ready_at is not None,
                "spent_s": (
                    asyncio.get_running_loop().time() - box.ready_at if box.ready_at else 0.0
                ),
                "preload": preloading.id if preloading else None,
                "running": running,
                "queued": len(box.executions.queue),
                "journal": {"lines": box.journal.lines, "failure": box.journal.failure},
                "warnings": box.book.warnings,
                "gpus": box.gpus.view() | {"limit_s": box.gpus.limit_s, "over": box.gpus_unused}
                if box.gpus
                else None,
                "workspace": str(box.options.workspace),
                "phases": box.phases,
                "environment": box.environment,
                "versions": versions(),
            }
        )


class Operations(Api):
    """How an operation is answered."""

    def _known(self, op: str) -> Operation:
        operation = self.sandbox.book.operations.get(op)
        if operation is None:
            raise web.HTTPError(404, f"there is no operation {op}")
        return operation

    async def _answer(self, operation: Operation) -> None:
        wait = self.number("wait", 0.0, LONGEST_WAIT_S)
        after = None
        if self.get_query_argument("after", None) is not None:
            after = int(self.number("after", 0, MOST_LINES))
        warnings, start = self.sandbox.book.warnings, after
        known = len(warnings)
        try:
            async with asyncio.timeout(wait):
                await self.sandbox.changed.until(
                    lambda: (
                        operation.final
                        or len(warnings) > known
                        or (start is not None and operation.lines.last > start)
                    )
                )
        except TimeoutError:
            pass
        # A client is told nothing that a SIGKILL of this server could take back.
        self.sandbox.journal.write()
        answer = operation.view() | {"warnings": self.sandbox.book.warnings}
        if after is None:
            answer["outputs"] = await self.sandbox.book.outputs(operation)
            self.finish_json(answer)
        else:
            self._finish_with_lines(answer, operation, after)

    def _finish_with_lines(self, answer: dict[str, Any], operation: Operation, after: int) -> None:
        """Answer with raw lines of the journal: they are JSON already."""
        lines: list[bytes] = []
        size = 0
        for first, last in operation.lines.after(after):
            if size < LINES_LIMIT:
                data = self.sandbox.journal.read(first - 1, LINES_LIMIT - size, last)
                lines += data.splitlines()
                size += len(data)
                after = first + data.count(b"\n") - 1
        answer |= {"next": after, "more": operation.lines.last > after}
        head = json.dumps(answer, separators=(",", ":")).encode()[:-1]
        self.json_headers()
        self.finish(head + b',"lines":[' + b",".join(lines) + b"]}")


class OperationHandler(Operations):
    """One operation: ask for it, look at it."""

    async def put(self, op: str) -> None:
        """Ask for it. The same request again changes nothing and gets the same answer."""
        self.check_id(op)
        boot = self.get_query_argument("boot")
        try:
            body = json.loads(self.request.body)
            operation = self.sandbox.submit(op, boot, body)
        except SandboxLost as error:
            return await self.lost(op, error)
        except OperationConflict as error:
            return self.conflict(error)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise web.HTTPError(400, f"{where}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:
            raise web.HTTPError(400, f"the body is not JSON: {error}") from None
        await self._answer(operation)
        return None

    async def get(self, op: str) -> None:
        """Look at it, waiting for its end or for lines after `after`."""
        await self._answer(self._known(op))


class InterruptHandler(Operations):
    """Stop one operation."""

    async def post(self, op: str) -> None:
        """Interrupt it, and wait a little for its end; nothing happens to one that has ended."""
        operation = self._known(op)
        await self.sandbox.interrupt(operation)
        await self._answer(operation)


class JournalHandler(Api):
    """The journal, from any line on."""

    async def get(self) -> None:
        """Raw lines after number `after`, waiting for the first of them up to `wait` seconds."""
        after = int(self.number("after", 0, MOST_LINES))
        journal = self.sandbox.journal
        try:
            async with asyncio.timeout(self.number("wait", 0.0, LONGEST_WAIT_S)):
                await self.sandbox.changed.until(lambda: journal.lines > after)
        except TimeoutError:
            pass
        journal.write()  # as in `_answer`
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
        self.set_header("Cache-Control", "no-store")
        for piece in self.sandbox.notebook.pieces():
            self.write(piece)
        self.finish()


class MaskHandler(Api):
    """For who writes down what the sandbox did not say."""

    def post(self) -> None:
        """The JSON value of the body, known secret values masked in all its strings."""
        try:
            self.finish_json(self.sandbox.mask.tree(json.loads(self.request.body)))
        except (ValueError, RecursionError) as error:
            raise web.HTTPError(400, f"the body is not JSON: {error}") from None


class InterfaceHandler(Api):
    """What is written down of this interface."""

    def get(self) -> None:
        """The OpenAPI document."""
        self.json_headers()
        self.finish(OPENAPI.read_bytes())


class ShutdownHandler(Api):
    """The end."""

    def post(self) -> None:
        """End the sandbox: the journal is flushed, the kernel killed, the process leaves."""
        self.sandbox.ended.set()
        self.set_status(202)
        self.finish_json({})


def handlers(base: str) -> list[tuple[str, type[Api]]]:
    """Routes under the server's base URL."""
    op = "([^/]+)"
    return [
        (f"{base}runner/v1/info", InfoHandler),
        (f"{base}runner/v1/operations/{op}", OperationHandler),
        (f"{base}runner/v1/operations/{op}/interrupt", InterruptHandler),
        (f"{base}runner/v1/journal", JournalHandler),
        (f"{base}runner/v1/notebook", NotebookHandler),
        (f"{base}runner/v1/mask", MaskHandler),
        (f"{base}runner/v1/shutdown", ShutdownHandler),
        (f"{base}runner/v1/openapi.json", InterfaceHandler),
    ]
