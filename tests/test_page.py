"""Who gets which address of the live page, and what a poll answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest import mock

from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase, gen_test
from tornado.web import Application

from runner.notebook import Notebook
from runner.sandbox import access
from runner.sandbox.access import LookOnAuthorizer, TicketIdentityProvider
from runner.sandbox.page import handlers

TOKEN = "token-of-the-test"
WITH_TOKEN = {"Authorization": f"token {TOKEN}"}
CODE = {"op": "i", "type": "cell", "action": "insert", "cell_type": "code", "index": None}
HTML = {"output_type": "display_data", "data": {"text/html": "<b>secret</b>"}, "metadata": {}}


class FakeRun:
    """What the page needs of a sandbox."""

    run_id, name, kernel_state = "run-1", "A run", "idle"

    def __init__(self) -> None:
        self.notebook = Notebook()
        self.changed = asyncio.Condition()
        self.apply(CODE | {"cell": "a", "source": "secret"})
        self.apply({"type": "start", "op": "o", "cell": "a"})
        content = {"data": HTML["data"], "metadata": {}}
        self.apply({"type": "message", "op": "o", "cell": "a", "msg_type": "display_data",
                    "content": content, "metadata": {}})  # fmt: skip

    def apply(self, line: dict[str, Any]) -> None:
        self.notebook.apply({"seq": 1, "time": "2026-01-01T00:00:00.000Z"} | line)


class PageTest(AsyncHTTPTestCase):
    addresses = ("", "static/page.js", "v1/cells", "v1/cells/a", "v1/cells/a/outputs/0")

    def get_app(self) -> Application:
        self.run_shown = FakeRun()
        provider = TicketIdentityProvider(token=TOKEN)
        return Application(
            handlers("/base/"),
            runner=self.run_shown,
            base_url="/base/",
            identity_provider=provider,
            authorizer=LookOnAuthorizer(identity_provider=provider),
            xsrf_cookies=True,
        )

    def ask(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> HTTPResponse:
        return self.fetch(f"/base/runner/{path}", headers=headers, **more)

    def post(self, headers: dict[str, str] | None = None) -> HTTPResponse:
        return self.ask("v1/ticket", headers, method="POST", body="")

    def ticket(self) -> str:
        return str(json.loads(self.post(WITH_TOKEN).body)["ticket"])

    def cookie(self) -> dict[str, str]:
        reply = self.ask(f"?ticket={self.ticket()}")
        return {"Cookie": reply.headers["Set-Cookie"].split(";")[0]}

    def test_nobody_gets_anything(self) -> None:
        name, value = self.cookie()["Cookie"].split("=")
        nobodies: list[dict[str, str]] = [
            {},
            {"Authorization": "token wrong"},
            {"Authorization": "token "},
            {"Authorization": f"token {TOKEN}x"},
            {"Authorization": TOKEN},
            {"Cookie": f"{name}=wrong"},
            {"Cookie": f"{name}={value}0"},
            {"Cookie": f"runner-other={value}"},
            {"Cookie": f"{name}={TOKEN}"},
        ]
        for headers in nobodies:
            for address in (*self.addresses, f"?token={TOKEN}", f"v1/cells?token={TOKEN}"):
                reply = self.ask(address, headers)
                assert reply.code == 403, (address, headers)
                assert b"secret" not in reply.body
                assert "Set-Cookie" not in reply.headers
            assert self.post(headers).code == 403

    def test_token_and_cookie_open_every_address(self) -> None:
        for headers in (WITH_TOKEN, self.cookie()):
            for address in self.addresses:
                reply = self.ask(address, headers)
                assert reply.code == 200, address
                assert "Set-Cookie" not in reply.headers
                assert reply.headers["Cache-Control"] == "no-store"
                assert reply.headers["X-Content-Type-Options"] == "nosniff"
                assert reply.headers["Referrer-Policy"] == "no-referrer"

    def test_a_cookie_makes_no_tickets(self) -> None:
        assert self.post(self.cookie()).code == 403

    def test_a_ticket_is_good_once(self) -> None:
        code = self.ticket()
        reply = self.ask(f"?ticket={code}")
        assert reply.code == 200
        assert b"secret" not in reply.body
        cookie = reply.headers["Set-Cookie"]
        assert cookie.startswith("runner-run-1=")
        for part in ("HttpOnly", "SameSite=Strict", "Path=/base/"):
            assert part in cookie
        assert self.ask(f"?ticket={code}").code == 403
        assert self.ask("?ticket=").code == 403

    def test_a_ticket_is_good_for_a_minute(self) -> None:
        for seconds, code in ((59, 200), (61, 403)):
            ticket = self.ticket()
            later = access.time.monotonic() + seconds
            with mock.patch.object(
                access, "time", mock.Mock(monotonic=mock.Mock(return_value=later))
            ):
                assert self.ask(f"?ticket={ticket}").code == code

    def test_policies_allow_no_inline_script_and_no_other_host(self) -> None:
        page = self.ask("", WITH_TOKEN).headers["Content-Security-Policy"]
        assert page.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in page and "frame-ancestors 'none'" in page
        frame = self.ask("v1/cells/a/outputs/0", WITH_TOKEN)
        policy = frame.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; default-src 'none'; ")
        assert "script" not in policy and "http" not in policy
        assert frame.headers["Content-Type"] == "text/html; charset=utf-8"

    def test_what_is_not_there_is_404(self) -> None:
        for address in ("v1/cells/b", "v1/cells/b/outputs/0", "v1/cells/a/outputs/7", "nothing"):
            assert self.ask(address, WITH_TOKEN).code == 404, address
        for address in ("static/../page.py", "static/%2e%2e/page.py", "static/index.html"):
            assert self.ask(address, WITH_TOKEN).code == 404, address
        assert self.ask("v1/cells?wait=soon", WITH_TOKEN).code == 400

    def poll(self, **query: Any) -> Any:
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        return json.loads(self.ask(f"v1/cells?{asked}", WITH_TOKEN).body)

    def test_a_poll_names_what_changed(self) -> None:
        first = self.poll()
        assert first["order"] == ["a"]
        assert [cell["id"] for cell in first["cells"]] == ["a"]
        nothing = self.poll(after=first["version"], tag=first["tag"])
        assert nothing["cells"] == []
        assert "order" not in nothing
        self.run_shown.apply(CODE | {"cell": "b", "source": "1"})
        second = self.poll(after=first["version"], tag=first["tag"])
        assert ([cell["id"] for cell in second["cells"]], second["order"]) == (["b"], ["a", "b"])

    def test_versions_of_another_life_count_for_nothing(self) -> None:
        assert [cell["id"] for cell in self.poll(after=99, tag="before.1")["cells"]] == ["a"]

    @gen_test
    async def test_a_poll_waits_for_a_change(self) -> None:
        first = self.ask_soon("after=0")
        known = json.loads((await first).body)
        waiting = self.ask_soon(f"after={known['version']}&tag={known['tag']}&wait=20")
        while not self.run_shown.changed._waiters:
            await asyncio.sleep(0)
        assert not waiting.done()
        self.run_shown.kernel_state = "dead"
        async with self.run_shown.changed:
            self.run_shown.changed.notify_all()
        assert json.loads((await waiting).body)["kernel"] == "dead"

    def ask_soon(self, query: str) -> Any:
        url = self.get_url(f"/base/runner/v1/cells?{query}")
        return asyncio.ensure_future(self.http_client.fetch(url, headers=WITH_TOKEN))


def test_the_cookie_may_only_look_on() -> None:
    authorizer = LookOnAuthorizer()
    for token, action, allowed in (
        (True, "execute", True),
        (False, "read", True),
        (False, "write", False),
        (False, "execute", False),
    ):
        handler = mock.Mock(token_authenticated=token)
        assert authorizer.is_authorized(handler, mock.Mock(), action, "kernels") is allowed
