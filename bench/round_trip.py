"""Round trip of a cell, `1+1`: this session beside the floor and beside Jupyter's own way.

`python bench/round_trip.py [--rounds N] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from sandbox_process import sandbox

CELLS, CELL_BYTES = 1_000, 50_000
Trip = Callable[[], Any]


@contextlib.contextmanager
def floor(top: Path) -> Iterator[Trip]:
    """A kernel over ZMQ on Unix sockets, and nothing between it and us."""
    manager = KernelManager(transport="ipc", ip=str(top / "k"))
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)

    def trip() -> None:
        client.execute_interactive("1+1", output_hook=lambda _: None, allow_stdin=False, timeout=60)

    try:
        yield trip
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def session(top: Path, *, full: bool) -> Iterator[Trip]:
    """Our session, on an empty notebook or on one of 1,000 cells and 50 MB."""
    top.mkdir()
    with sandbox(top) as box, box.session() as client:
        if full:
            client.run("line = 'x' * 99 + '\\n'", hidden=True)
            for _ in range(CELLS):
                client.run(f"print(line * {CELL_BYTES // 100}, end='')")
        yield lambda: client.run("1+1")


@contextlib.contextmanager
def websocket(top: Path) -> Iterator[Trip]:
    """jupyter_kernel_client over the websocket of a jupyter_server."""
    from jupyter_kernel_client import JupyterKernelClient

    top.mkdir()
    token, port = secrets.token_hex(16), _free_port()
    flags = ["--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *flags, f"--ServerApp.root_dir={top}"],
        env={**_environ(top), "JUPYTER_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        url = f"http://127.0.0.1:{port}"
        with JupyterKernelClient(server_url=url, token=token) as client:
            yield lambda: client.execute("1+1")
    finally:
        server.terminate()
        server.wait()


def measure(ways: dict[str, Trip], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way, one of each in every round: what slows one slows all."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 5):
        for name, trip in ways.items():
            began = time.perf_counter()
            trip()
            if round_ >= 5:
                taken[name].append((time.perf_counter() - began) * 1e3)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-websocket", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as made,
        contextlib.ExitStack() as at,
    ):
        top = Path(made)
        ways = {
            "jupyter_client over ZMQ (the floor)": at.enter_context(floor(top)),
            "this session": at.enter_context(session(top / "s", full=False)),
            f"this session, {CELLS} cells, {CELLS * CELL_BYTES // 10**6} MB": at.enter_context(
                session(top / "f", full=True)
            ),
        }
        if not options.no_websocket:
            ways["jupyter_kernel_client, websocket"] = at.enter_context(websocket(top / "w"))
        taken = measure(ways, options.rounds)
    least = statistics.median(next(iter(taken.values())))
    rows = [
        {
            "way": name,
            "median_ms": round(statistics.median(times), 2),
            "p90_ms": round(statistics.quantiles(times, n=10)[-1], 2),
            "ratio": round(statistics.median(times) / least, 2),
        }
        for name, times in taken.items()
    ]
    if options.json:
        print(json.dumps({"rounds": options.rounds, "rows": rows}, indent=1))
        return
    print(f"{'round trip of 1+1':40} {'median':>10} {'p90':>10} {'ratio':>7}")
    for row in rows:
        print(f"{row['way']:40} {row['median_ms']:7} ms {row['p90_ms']:7} ms {row['ratio']:6}x")


def _environ(top: Path) -> dict[str, str]:
    own = {f"JUPYTER_{kind}_DIR": str(top / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    return {**os.environ, **own}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main()
