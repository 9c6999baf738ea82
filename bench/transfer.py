"""A file of 100 MB up and down through the session, beside `tar` over loopback.

`python bench/transfer.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

from figures import Figure, Target, in_turn, run
from sandbox_process import sandbox

from runner.session import Session

BESIDE = "tar over loopback"
SECRET = "BENCH_SECRET"


def tar(file: Path, into: Path) -> None:
    """What a careful `cp` over the network is: tar | TCP | tar."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sending = socket.create_connection(listening.getsockname())
        receiving, _ = listening.accept()
    with sending, receiving:
        packing = subprocess.Popen(["tar", "-cf", "-", file.name], cwd=file.parent, stdout=sending)
        unpacking = subprocess.Popen(["tar", "-xf", "-"], cwd=into, stdin=receiving)
        assert packing.wait() == 0
        sending.shutdown(socket.SHUT_WR)
        assert unpacking.wait() == 0


def up(session: Session, file: Path) -> None:
    """Into the workspace."""
    with file.open("rb") as data:
        assert session.write_file("big", data).state == "ok"


def down(session: Session, into: Path) -> None:
    """Out of it again."""
    with (into / "down").open("wb") as file:
        session.fetch("big", file.writelines)


def measure(top: Path, quick: bool) -> list[Figure]:
    """Up, down and tar in turn; the sandbox has a secret, which is looked for on the way down."""
    size, rounds = (1_000_000, 2) if quick else (100_000_000, 7)
    file, into = top / "big", top / "into"
    file.write_bytes(os.urandom(size))
    into.mkdir()
    with contextlib.ExitStack() as at:
        secret = {SECRET: "a value of some length"}
        box = at.enter_context(sandbox(top, environ=secret, secrets=(SECRET,)))
        session = at.enter_context(box.session())
        ways: dict[str, Callable[[], None]] = {
            "up": lambda: up(session, file),
            "down": lambda: down(session, into),
            BESIDE: lambda: tar(file, into),
        }
        taken = in_turn(ways, rounds, warm=1)
        for made in (box.workspace / "big", into / "down", into / "big"):
            assert filecmp.cmp(file, made, shallow=False), made
    speed = {name: size / 1e6 / statistics.median(times) for name, times in taken.items()}
    return [
        Figure(f"a file of {size / 1e6:g} MB through the session", way, speed[way], "MB/s", BESIDE,
               speed[BESIDE], Target("ratio", least=0.5))
        for way in ("up", "down")
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
