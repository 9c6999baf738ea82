"""Many printed lines: how many are kept, and in which time, beside nbclient and the websocket.

`python bench/lines.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import jupyter_peers as peers
import nbformat
from figures import Figure, Target, in_turn, run
from nbclient import NotebookClient
from sandbox_process import sandbox

LONGEST_S = 600.0
OURS, IN_PROCESS, WEBSOCKET = "this session", "nbclient in process", "jupyter_server's websocket"
Printed = Callable[[str], Callable[[], str]]
"""Runs a cell; what it gives then tells what was kept of what the cell printed."""


@contextlib.contextmanager
def session(top: Path) -> Iterator[Printed]:
    """Ours: what is kept is what the journal holds."""
    top.mkdir()
    with sandbox(top, timeout_s=10 * LONGEST_S) as box, box.session() as client:

        def printed(source: str) -> Callable[[], str]:
            result = client.run(source, timeout_s=LONGEST_S)
            assert result.state == "ok", result

            def kept() -> str:
                lines = (line for line in box.journal() if line.get("op") == result.op)
                said = (line["content"] for line in lines if line.get("msg_type") == "stream")
                return "".join(content["text"] for content in said)

            return kept

        yield printed


@contextlib.contextmanager
def in_process(top: Path) -> Iterator[Printed]:
    """nbclient, as `jupyter execute` uses it: what is kept is in the notebook."""
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(top)}})
    with client.setup_kernel(stderr=subprocess.DEVNULL):

        def printed(source: str) -> Callable[[], str]:
            cell = nbformat.v4.new_code_cell(source)
            notebook.cells = [cell]
            client.execute_cell(cell, 0)
            return lambda: "".join(output["text"] for output in cell.outputs)

        yield printed


@contextlib.contextmanager
def websocket(top: Path) -> Iterator[Printed]:
    """jupyter_server's, with its default limits: what is kept is what arrives."""
    with (
        peers.jupyter_server(top) as server,
        peers.kernel_websocket(server, quickack=True) as execute,
    ):

        def printed(source: str) -> Callable[[], str]:
            text = execute(source)
            return lambda: text

        yield printed


def share(text: str, count: int) -> float:
    """Which part of the numbered lines is there; none twice."""
    numbers = [line.partition(" ")[0] for line in text.splitlines()]
    there = {number for number in numbers if number.isdecimal()}
    assert len(there) == sum(map(str.isdecimal, numbers)), "a line came twice"
    return len(there) / count


def measure(top: Path, quick: bool) -> list[Figure]:
    """Each kind of printing in turn through each way."""
    logging.disable(logging.WARNING)
    rounds, scale = (1, 100) if quick else (3, 1)
    found: list[Figure] = []
    with contextlib.ExitStack() as at:
        ways = {
            OURS: at.enter_context(session(top / "s")),
            IN_PROCESS: at.enter_context(in_process(top)),
            WEBSOCKET: at.enter_context(websocket(top / "w")),
        }
        for words, count, more in (
            ("300,000 lines printed", 300_000, ""),
            ("60,000 prints flushed", 60_000, ", flush=True"),
        ):
            found += _figures(words, count // scale, more, ways, rounds)
    return found


def _figures(
    words: str, count: int, more: str, ways: dict[str, Printed], rounds: int
) -> list[Figure]:
    source = f"for n in range({count}): print(n, 'as a loop that trains prints them'{more})"
    kept: dict[str, list[Callable[[], str]]] = {name: [] for name in ways}

    def print_in(name: str) -> Callable[[], None]:
        return lambda: kept[name].append(ways[name](source))

    taken = in_turn({name: print_in(name) for name in ways}, rounds)
    shares = {name: min(share(told(), count) for told in kept[name]) for name in ways}
    seconds = {name: statistics.median(taken[name]) for name in ways}
    return [
        Figure(words, "kept ÷ printed", shares[OURS], "", IN_PROCESS, shares[IN_PROCESS],
               Target("figure", least=1.0)),
        Figure(words, "kept ÷ printed", shares[OURS], "", WEBSOCKET, shares[WEBSOCKET]),
        Figure(words, "time", seconds[OURS], "s", IN_PROCESS, seconds[IN_PROCESS],
               Target("ratio", most=1.3)),
        Figure(words, "time", seconds[OURS], "s", WEBSOCKET, seconds[WEBSOCKET]),
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
