"""`python -m runner.sandbox OPTIONS.json`: the sandbox's process.

It serves when its stdin ends: whoever has something to do before the options can be written
starts it early, and all is imported by then.
Ends with status 0 when it was told to, or by itself; anything else is a crash.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from runner.sandbox import memory
from runner.sandbox.core import Sandbox
from runner.sandbox.options import Options
from runner.sandbox.rendering import NotebookFile
from runner.sandbox.watch import watch


async def serve(options: Options) -> int:
    """Run one sandbox until it ends; returns the process's exit status."""
    environ = dict(os.environ)
    for directory in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[directory] = str(options.state / "jupyter")
    sandbox = Sandbox(options, environ)
    notebook = NotebookFile(sandbox.book, options.workspace)
    _end_on_signals(sandbox)
    try:
        sandbox.start()
        await asyncio.sleep(0)
        # Its imports take about as long as the kernel's start: both go on at once.
        server = _import_server().listen(sandbox)
        _end_on_signals(sandbox)  # jupyter_server has put its own handlers in place
        sandbox.spawn(watch(sandbox))
        sandbox.spawn(notebook.keep_written())
        await sandbox.ended.wait()
        server.stop()
    finally:
        await sandbox.stop("the sandbox was stopped")
        notebook.write()
    if sandbox.crash is not None:
        traceback.print_exception(sandbox.crash)
        return 1
    return 0


def _import_server() -> ModuleType:
    # jsonschema's check of URLs compiles grammars for seconds, and is not needed.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    return importlib.import_module("runner.sandbox.server")


def _end_on_signals(sandbox: Sandbox) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sandbox.ended.set)


async def _serve_and_leave(options: Options) -> None:
    status = await serve(options)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of asyncio: it waits for threads that count, pack or copy for minutes.
    os._exit(status)


def run(options: Options) -> None:
    """Serve until the end, which is the process's too."""
    os.umask(0o022)
    memory.give_back()
    _log_to_stderr()
    asyncio.run(_serve_and_leave(options))


def _log_to_stderr() -> None:
    """What the sandbox does, a line each; what it is asked to run is in the journal alone."""
    handler = logging.StreamHandler()
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%SZ")
    form.converter = time.gmtime
    handler.setFormatter(form)
    logger = logging.getLogger("runner")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """Wait for the options and serve."""
    _import_server()
    sys.stdin.read()
    try:
        text = Path(sys.argv[1]).read_bytes()
    except FileNotFoundError:
        sys.exit("the sandbox was not prepared: what started this server has ended")
    run(Options.model_validate_json(text))


if __name__ == "__main__":
    main()
