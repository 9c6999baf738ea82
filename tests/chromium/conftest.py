"""A live page without a sandbox: its handlers over a notebook that the test feeds, and Chromium."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from tornado.web import Application

from runner.notebook import Notebook
from runner.sandbox.access import LookOnAuthorizer, TicketIdentityProvider
from runner.sandbox.page import handlers

TOKEN = "token-of-the-test"
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--window-size=1200,900",
]


class LivePage:
    """The page's server in a thread of its own; every method may be called from the test."""

    run_id, name = "demo-1", "A demo run"
    kernel_state = "idle"

    def __init__(self) -> None:
        self.notebook = Notebook()
        self.changed = asyncio.Condition()
        self._seq = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(self._listen())

    async def _listen(self, port: int = 0) -> Any:
        provider = TicketIdentityProvider(token=TOKEN)
        application = Application(
            handlers("/"),
            runner=self,
            base_url="/",
            identity_provider=provider,
            authorizer=LookOnAuthorizer(identity_provider=provider),
        )
        server = application.listen(port, "127.0.0.1")
        self.port = next(iter(server._sockets.values())).getsockname()[1]
        return server

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/runner/"

    def ticket_url(self) -> str:
        reply = httpx.post(self.url + "v1/ticket", headers={"Authorization": f"token {TOKEN}"})
        return f"{self.url}?ticket={reply.raise_for_status().json()['ticket']}"

    def feed(self, *lines: dict[str, Any], kernel: str | None = None) -> None:
        async def apply() -> None:
            for line in lines:
                self.notebook.apply({"seq": next(self._seq), "time": line.pop("time", None)} | line)
            self.kernel_state = kernel or self.kernel_state
            async with self.changed:
                self.changed.notify_all()

        self._do(apply())

    def stop(self) -> None:
        async def stop() -> None:
            self._server.stop()
            await self._server.close_all_connections()

        self._do(stop())

    def start_again(self) -> None:
        self._server = self._do(self._listen(self.port))

    def close(self) -> None:
        async def cancel() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.stop()
        self._do(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


@pytest.fixture
def page() -> Iterator[LivePage]:
    live = LivePage()
    yield live
    live.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()
