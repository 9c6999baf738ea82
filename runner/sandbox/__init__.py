"""What runs inside a sandbox: a jupyter_server extension that owns the notebook.

__main__.py       the process: kernel and server, started together
options.py        what it is told when it starts
core.py           Sandbox: kernel, notebook, journal and operations, in one place
kernel.py         the kernel and the one reader of its messages
journal.py        the append-only truth
operations.py     what a client may ask for
shell.py files.py commands and files of the workspace
watch.py          memory, disk, idleness, the run's time
handlers.py file_handlers.py   the HTTP interface (openapi.json)
page.py fragments.py static/   the live page
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "runner.sandbox"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Add the routes. The server's settings hold the `Sandbox` under "runner"."""
    from runner.sandbox import file_handlers, handlers, page

    base = app.web_app.settings["base_url"]
    routes = [*handlers.handlers(base), *file_handlers.handlers(base), *page.handlers(base)]
    app.web_app.add_handlers(".*$", routes)
