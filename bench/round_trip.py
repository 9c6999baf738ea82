"""Round trip of a cell, `1+1`: this session beside the floor and beside Jupyter's own ways.

`python bench/round_trip.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import jupyter_peers as peers
from figures import Figure, Target, in_turn, quantile, run
from sandbox_process import sandbox

GROUP = "round trip of 1+1"
CELLS, CELL_BYTES = 1_000, 50_000
SOURCE = "1+1"
FULL, FLOOR, OURS = "full", "jupyter_client over ZMQ, the floor", "this session"
CLIENT, QUICKACK = "jupyter_kernel_client", "websocket with TCP_QUICKACK"
MCP = "jupyter-mcp-server"


@contextlib.contextmanager
def session(top: Path, *, cells: int = 0) -> Iterator[Callable[[str], Any]]:
    """Our session, on an empty notebook or on one with so many cells of 50 kB."""
    top.mkdir()
    with sandbox(top) as box, box.session() as client:
        client.run("line = 'x' * 99 + '\\n'", hidden=True)
        for _ in range(cells):
            client.run(f"print(line * {CELL_BYTES // 100}, end='')")
        yield client.run


def measure(top: Path, quick: bool) -> list[Figure]:
    """Each way in turn."""
    logging.disable(logging.WARNING)
    cells, rounds = (20, 10) if quick else (CELLS, 400)
    with contextlib.ExitStack() as at:
        server = at.enter_context(peers.jupyter_server(top / "server"))
        ways = {
            FLOOR: at.enter_context(peers.zmq_kernel(top)),
            OURS: at.enter_context(session(top / "s")),
            FULL: at.enter_context(session(top / "f", cells=cells)),
            CLIENT: at.enter_context(peers.kernel_client(server)),
            QUICKACK: at.enter_context(peers.kernel_websocket(server, quickack=True)),
            MCP: at.enter_context(peers.mcp_server(top / "mcp")),
        }
        trips = {name: partial(way, SOURCE) for name, way in ways.items()}
        # Its cells make its notebook slower and slower; and it is the slowest by far.
        slow = {MCP: trips.pop(MCP)}
        taken = in_turn(trips, rounds, warm=5) | in_turn(slow, max(5, rounds // 10), warm=1)
    found = {
        (name, percent): 1e3 * quantile(times, percent)
        for name, times in taken.items()
        for percent in (50, 99)
    }

    def figure(percent: int, beside: str, most: float | None, of: str = OURS) -> Figure:
        target = None if most is None else Target("ratio", most=most)
        size = f" in a notebook of {cells} cells, {cells * CELL_BYTES / 1e6:g} MB"
        return Figure(
            GROUP,
            f"p{percent}{size if of == FULL else ''}",
            found[of, percent],
            "ms",
            f"{OURS} at 1 cell" if beside == OURS else beside,
            found[beside, percent],
            target,
        )

    return [
        figure(50, FLOOR, 1.5),
        figure(99, FLOOR, 1.5),
        figure(50, CLIENT, 1 / 6),
        figure(99, CLIENT, None),
        figure(50, QUICKACK, 1.0),
        figure(99, QUICKACK, None),
        figure(50, MCP, None),
        figure(99, MCP, None),
        figure(50, OURS, 1.2, FULL),
        figure(99, OURS, 1.2, FULL),
    ]


if __name__ == "__main__":
    run(measure, __doc__)
