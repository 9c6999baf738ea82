"""The live page: a run's notebook for people, read-only, growing as cells run.

    {base}runner/                        the page; ?ticket=CODE lets a browser in
    {base}runner/static/…                its script and style
    {base}runner/v1/ticket               POST, with the token: a ticket
    {base}runner/v1/cells                what changed since a version (long poll)
    {base}runner/v1/cells/ID             one cell as pieces of HTML
    {base}runner/v1/cells/ID/outputs/N   a picture, or the document of a sandboxed frame

Needs `settings["runner"]`, see `Run`, and access.TicketIdentityProvider.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import User
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, StaticFileHandler

from runner.sandbox.access import TICKET_SECONDS, TicketIdentityProvider
from runner.sandbox.fragments import fragments, media, summary

if TYPE_CHECKING:
    from runner.notebook import Cell, Notebook

STATIC = Path(__file__).parent / "static"
LONGEST_WAIT = 30.0  # seconds that a poll may wait
_BOOT = secrets.token_hex(4)  # versions of another life of the server mean nothing
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_MEDIA_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
)


class Run(Protocol):
    """What the page shows; the server keeps it in `settings["runner"]`."""

    notebook: Notebook
    changed: asyncio.Condition
    run_id: str
    name: str
    kernel_state: str


def handlers(base_url: str) -> list[tuple[Any, ...]]:
    """List the page's addresses, for a tornado application."""

    def at(path: str) -> str:
        return url_path_join(base_url, "runner", path)

    cell = r"v1/cells/([A-Za-z0-9_-]{1,64})"
    return [
        (at(r"/"), _Page),
        (at(r"static/(page\.(?:js|css))"), _Static, {"path": str(STATIC)}),
        (at(r"v1/ticket"), _Ticket),
        (at(r"v1/cells"), _Cells),
        (at(cell), _Cell),
        (at(cell + r"/outputs/([0-9]{1,6})"), _Media),
    ]


class _Handler(JupyterHandler):
    """Nobody without token or cookie gets past `prepare`; errors are plain words."""

    @property
    def content_security_policy(self) -> str:
        return _PAGE_POLICY

    @property
    def run(self) -> Run:
        return cast(Run, self.settings["runner"])

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Referrer-Policy", "no-referrer")

    async def prepare(self) -> None:  # type: ignore[override]
        await super().prepare()
        if self.current_user is None:
            raise HTTPError(403)

    def get_login_url(self) -> str:
        raise HTTPError(403)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        del kwargs
        words = responses.get(status_code, "error")
        if status_code == 403:
            words = (
                "This page needs a ticket, good for one use within a minute: "
                f"runner open {self.run.run_id}"
            )
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(words + "\n")

    def cell(self, cell_id: str) -> Cell:
        """Find a cell; raises HTTPError 404."""
        found = self.run.notebook.cells.get(cell_id)
        if found is None:
            raise HTTPError(404)
        return found


class _Page(_Handler):
    async def prepare(self) -> None:  # type: ignore[override]
        await JupyterHandler.prepare(self)

    @allow_unauthenticated
    def get(self) -> None:
        provider = cast(TicketIdentityProvider, self.identity_provider)
        code = self.get_query_argument("ticket", None)
        if code is not None and provider.redeem_ticket(code):
            provider.set_login_cookie(self, User("viewer"))
            # Not a redirect: after a link from another site a browser would not send the
            # SameSite=Strict cookie along it. A page that moves on by itself is our own site.
            self.finish(
                '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=.">'
                '<title>Opening the run</title><a href=".">Open the run</a>\n'
            )
        elif self.current_user is None:
            raise HTTPError(403)
        else:
            self.finish((STATIC / "index.html").read_bytes())


class _Static(_Handler, StaticFileHandler):
    pass


class _Ticket(_Handler):
    def post(self) -> None:
        if not self.token_authenticated:
            raise HTTPError(403)
        code = cast(TicketIdentityProvider, self.identity_provider).issue_ticket()
        self.finish({"ticket": code, "seconds": TICKET_SECONDS})


class _Cells(_Handler):
    async def get(self) -> None:
        """Answer with the cells changed since version `after`, once there are any.

        Waits at most `wait` seconds. `tag` stands for all else that the page knows (order,
        kernel); when it is no longer true, the answer has the order too.
        """
        try:
            after = int(self.get_query_argument("after", "0"))
            wait = float(self.get_query_argument("wait", "0"))
        except ValueError:
            raise HTTPError(400) from None
        tag = self.get_query_argument("tag", "")
        if not tag.startswith(_BOOT):
            after = -1
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(wait, LONGEST_WAIT))), self.run.changed:
                await self.run.changed.wait_for(lambda: self._news(after, tag))
        notebook = self.run.notebook
        reply = {
            "boot": _BOOT,
            "tag": self._tag(),
            "version": notebook.version,
            "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self.run.run_id,
            "name": self.run.name,
            "kernel": self.run.kernel_state,
            "cells": [summary(cell) for cell in notebook.cells.values() if cell.version > after],
        }
        if reply["tag"] != tag:
            reply["order"] = notebook.order()
        self.finish(reply)

    def _news(self, after: int, tag: str) -> bool:
        return self.run.notebook.version > after or self._tag() != tag

    def _tag(self) -> str:
        known = hash((self.run.kernel_state, *self.run.notebook.order()))
        return f"{_BOOT}.{known & 0xFFFFFFFFFFFF:x}"


class _Cell(_Handler):
    def get(self, cell_id: str) -> None:
        whole = self.get_query_argument("whole", "") == "1"
        self.finish(fragments(self.cell(cell_id), whole=whole))


class _Media(_Handler):
    @property
    def content_security_policy(self) -> str:
        return _MEDIA_POLICY

    def get(self, cell_id: str, number: str) -> None:
        outputs = self.cell(cell_id).outputs
        found = media(outputs[int(number)]) if int(number) < len(outputs) else None
        if found is None:
            raise HTTPError(404)
        self.set_header("Content-Type", found.content_type)
        self.finish(found.body)
