"""The jupyter_server that carries the extension."""

from __future__ import annotations

import logging
import socket
from typing import Any

from jupyter_server.log import log_request
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.httpserver import HTTPServer
from tornado.log import gen_log
from tornado.netutil import bind_sockets
from tornado.web import HTTPError, RequestHandler

from runner.sandbox import rendering
from runner.sandbox.access import LookOnAuthorizer, TicketIdentityProvider
from runner.sandbox.core import Sandbox

LOOPBACK = "127.0.0.1"
LARGEST_BODY = 128 * 2**20
"""Bodies are in memory whole, and before the token is looked at; those of uploads are not."""


class Contents(AsyncLargeFileManager):
    """JupyterLab may open the run's notebook; the sandbox alone writes it."""

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        """Refuse the run's notebook, with words."""
        self._spare_the_notebook(path)
        return await super().save(model, path)  # type: ignore[no-untyped-call]

    async def rename_file(self, old_path: str, new_path: str) -> None:
        """Refuse the run's notebook, with words."""
        self._spare_the_notebook(old_path)
        self._spare_the_notebook(new_path)
        await super().rename_file(old_path, new_path)  # type: ignore[no-untyped-call]

    async def delete_file(self, path: str) -> None:
        """Refuse the run's notebook, with words."""
        self._spare_the_notebook(path)
        await super().delete_file(path)  # type: ignore[no-untyped-call]

    def _spare_the_notebook(self, path: str) -> None:
        if path.strip("/") == rendering.NAME:
            raise HTTPError(403, "this notebook is written by the run; save a copy")


def _without_token(handler: object, config: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """JupyterLab writes the server's token into its page, where a mere viewer would find it."""
    return {**config, "token": ""}


def _log_refusal(handler: RequestHandler) -> None:
    """A line for what was refused or failed; Jupyter spells one for each request."""
    if handler.get_status() >= 400:
        log_request(handler, record_prometheus_metrics=False)  # type: ignore[no-untyped-call]


def listen(sandbox: Sandbox) -> HTTPServer:
    """Start the server. It writes no info file and prints no token."""
    options = sandbox.options
    app = ServerApp(
        allow_root=True,
        open_browser=False,
        log_level="WARN",
        allow_remote_access=options.address != LOOPBACK,
        root_dir=str(options.workspace),
        jpserver_extensions={"runner.sandbox": True},
        identity_provider_class=TicketIdentityProvider,
        authorizer_class=LookOnAuthorizer,
        contents_manager_class=Contents,
        tornado_settings={
            "runner": sandbox,
            "page_config_hook": _without_token,
            "log_function": _log_refusal,
        },
        max_body_size=LARGEST_BODY,
    )
    app.config.IdentityProvider.token = options.token_file.read_text().strip()
    app.initialize(argv=[], new_httpserver=False)
    # It would write whole addresses down, with a token that somebody put into one by mistake.
    gen_log.setLevel(logging.ERROR)
    server = HTTPServer(
        app.web_app,
        max_body_size=LARGEST_BODY,
        max_buffer_size=LARGEST_BODY,
        idle_connection_timeout=options.headers_s,
        body_timeout=options.body_s,
    )
    if options.socket_fd is not None:
        inherited = socket.socket(fileno=options.socket_fd)
        inherited.setblocking(False)
        server.add_sockets([inherited])
    else:
        server.add_sockets(bind_sockets(options.port, options.address))
    start = app.extension_manager.start_all_extensions()  # type: ignore[no-untyped-call]
    sandbox.spawn(start)
    return server
