"""What runs inside a sandbox: a jupyter_server extension that owns the notebook.

__main__.py  options.py     the process, and what it is told when it starts
core.py                     Sandbox: what a client asks for is checked and done once
operations.py  edits.py     what a client may ask for; what an edit makes of a cell
book.py                     the journal, and the notebook and operations it amounts to
journal.py  replay.py       the append-only truth, and operations as it tells them
rendering.py                the .ipynb
executions.py               the queue
kernel.py  messages.py      the kernel and the one reader of its messages
kernel_main.py              the kernel's entry, which the kernel's own Python runs
commands.py  shell.py       shell commands
files.py                    files of the workspace
watch.py  memory.py         memory, disk, idleness, the run's time
gpus.py  meter.py           whether the GPUs are used
calls.py  call_handlers.py   calls between processes of different sandboxes
processes.py                every process ends with the sandbox
server.py                   the jupyter_server that carries all this
handlers.py  file_handlers.py   the HTTP interface (openapi.json)
access.py                   who may ask
page.py  fragments.py  ansi.py  static/   the live page
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "runner.sandbox"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Add the routes. The server's settings hold the `Sandbox` under "runner"."""
    from runner.sandbox import call_handlers, file_handlers, handlers, page

    base = app.web_app.settings["base_url"]
    modules = (handlers, file_handlers, call_handlers, page)
    routes = [route for module in modules for route in module.handlers(base)]
    app.web_app.add_handlers(".*$", routes)  # type: ignore[no-untyped-call]
