"""Peak memory of the sandbox server: large outputs, many lines, a reader that stalls.

`python bench/memory.py [--quick] [--json]`, on Linux; README.md says how to read it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

from figures import Figure, Target, run
from sandbox_process import SandboxProcess, sandbox, until

from runner.sandbox import rendering
from runner.session import Session

GROUP = "peak memory of the sandbox server"
LONGEST_S = 600.0
REST, PEAK = "VmRSS", "VmHWM"
Load = Callable[[SandboxProcess, Session, int], Any]


def held(pid: int, row: str) -> float:
    """Megabytes that the kernel counts for a process, now or at most."""
    (found,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(f"{row}:")
    )  # fmt: skip
    return int(found.split()[1]) * 1024 / 1e6


def outputs(box: SandboxProcess, session: Session, scale: int) -> None:
    """1,000 cells of 50 kB, until they are in the notebook on disk."""
    session.run("line = 'x' * 99 + '\\n'", hidden=True)
    cells = 1_000 // scale
    for _ in range(cells):
        session.run("print(line * 500, end='')")
    file = box.workspace / rendering.NAME
    until(lambda: len(json.loads(file.read_text())["cells"]) == cells, 60, "the notebook is whole")


def lines(_: SandboxProcess, session: Session, scale: int) -> None:
    """300,000 printed lines."""
    source = f"for n in range({300_000 // scale}): print(n, 'as a loop that trains prints them')"
    assert session.run(source, timeout_s=LONGEST_S).state == "ok"


def stalled(box: SandboxProcess, session: Session, scale: int) -> None:
    """200 MB printed, while two clients ask for the lines and never read the answer."""
    source = f"for n in range({200_000 // scale}): print('x' * 999)"
    op = session.run(source, timeout_s=0).op
    with contextlib.ExitStack() as at:
        for path in (f"operations/{op}?after=0&wait=20", "journal?after=0&wait=20"):
            at.enter_context(_reader(box, f"/runner/v1/{path}"))
        assert session.wait(op, timeout_s=LONGEST_S).state == "ok"


def _reader(box: SandboxProcess, path: str) -> socket.socket:
    """One that asks a hundred times and reads nothing; the small buffer is full at once."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    to = urlsplit(box.url)
    held.connect((to.hostname, to.port))
    asked = f"GET {path} HTTP/1.1\r\nHost: {to.netloc}\r\nAuthorization: token {box.token}\r\n\r\n"
    held.sendall(asked.encode() * 100)
    return held


def peak(top: Path, load: Load, scale: int) -> tuple[float, float]:
    """Megabytes at rest, and the most that it took."""
    top.mkdir()
    with sandbox(top) as box, box.session() as session:
        assert session.run("1+1", hidden=True).state == "ok"
        assert box.process is not None
        pid = box.process.pid
        rest = held(pid, REST)
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # forgets the peak of its start
        load(box, session, scale)
        return rest, held(pid, PEAK)


def measure(top: Path, quick: bool) -> list[Figure]:
    """Each load on a server of its own."""
    loads: dict[str, Load] = {
        "50 MB of outputs": outputs,
        "300,000 lines": lines,
        "200 MB printed, two readers stalled": stalled,
    }
    found = []
    for number, (words, load) in enumerate(loads.items()):
        rest, most = peak(top / str(number), load, 100 if quick else 1)
        target = Target("difference", most=150)
        found.append(Figure(GROUP, words, most, "MB", "itself at rest", rest, target))
    return found


if __name__ == "__main__":
    run(measure, __doc__)
