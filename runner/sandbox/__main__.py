"""`python -m runner.sandbox OPTIONS.json`: the sandbox's process.

Ends with status 0 when it was told to, or by itself; anything else is a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from runner.sandbox.core import Sandbox
from runner.sandbox.options import Options
from runner.sandbox.watch import watch

RENDER_EVERY_S = 1.0
RENDER_SHARE = 10
"""A render that took a second is followed by ten without one."""
NOTEBOOK = "notebook.ipynb"


async def serve(options: Options) -> None:
    """Run one sandbox until it ends."""
    environ = dict(os.environ)
    for directory in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[directory] = str(options.state / "jupyter")
    sandbox = Sandbox(options, environ)
    _end_on_signals(sandbox)
    try:
        await sandbox.start()
        # Its imports take about as long as the kernel's start: both go on at once.
        from runner.sandbox.server import listen

        server = listen(sandbox)
        _end_on_signals(sandbox)  # jupyter_server has put its own handlers in place
        sandbox.spawn(watch(sandbox))
        sandbox.spawn(_render(sandbox))
        await sandbox.ended.wait()
        server.stop()
    finally:
        await sandbox.stop("the sandbox was stopped")
        write_notebook(sandbox)


def _end_on_signals(sandbox: Sandbox) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sandbox.ended.set)


async def _render(sandbox: Sandbox) -> None:
    """Keep the .ipynb up to date, off the cells' path, seldom when it is large."""
    loop = asyncio.get_running_loop()
    rendered = -1
    while True:
        if rendered != sandbox.notebook.version:
            rendered, began = sandbox.notebook.version, loop.time()
            pieces = sandbox.notebook.pieces()
            with contextlib.suppress(OSError):  # a full disk: the journal says so
                await asyncio.to_thread(_write, sandbox.options.workspace / NOTEBOOK, pieces)
            await asyncio.sleep(max(RENDER_EVERY_S, RENDER_SHARE * (loop.time() - began)))
        else:
            async with sandbox.changed:
                await sandbox.changed.wait()


def write_notebook(sandbox: Sandbox) -> None:
    """The .ipynb, now."""
    with contextlib.suppress(OSError):
        _write(sandbox.options.workspace / NOTEBOOK, sandbox.notebook.pieces())


def _write(path: Path, pieces: list[bytes]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.writelines(pieces)
    part.replace(path)


def main() -> None:
    """Read the options and serve."""
    options = Options.model_validate_json(Path(sys.argv[1]).read_bytes())
    os.umask(0o022)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
