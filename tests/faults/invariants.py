"""What holds of a run after any fault; `check` looks at all of it.

Cells made by `counted` write down that they ran and number what they print, so that a line
that is missing or doubled, and a cell that ran twice, are seen.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil
from tiny_runs import Run, processes_of, until

from runner import locks
from runner.backends.local.directory import RUNTIME_PREFIX
from runner.backends.local.handle import read_handle
from runner.backends.local.paths import Paths
from runner.record import Record, read_lines
from runner.record.verify import verify

STATES = {"ok", "error", "interrupted", "kernel_died", "restarted", "lost"}
"""Of design/30: every execution ends in exactly one of them."""
COLLECTED = {"done", "bound", "timeout"}
"""States of a run after which the record has all that its sandbox had."""
LOST = {"kernel_died": "variables are gone", "restarted": "variables are gone", "lost": "lost"}
"""What a state of an execution is told with."""
RAN = "ran"
"""A file of the workspace: a line for each time that a counted cell ran."""
_COUNTED = re.compile(r"# counted (\S+), (\d+) lines")

Line = Mapping[str, Any]


def counted(
    name: str,
    lines: int = 0,
    *,
    every_s: float = 0.0,
    before: str = "",
    after: str = "",
    ran: str = RAN,
) -> str:
    """Source of a cell that says that it ran, and then prints numbered lines, each flushed."""
    return (
        f"# counted {name}, {lines} lines\n"
        "import time\n"
        f"with open({ran!r}, 'a') as ran: ran.write('{name}\\n')\n"
        f"{before}\n"
        f"for n in range({lines}): print('{name}', n, flush=True), time.sleep({every_s})\n"
        f"{after}"
    )


def counted_command(name: str, ran: str = RAN) -> str:
    """A shell command that says that it ran."""
    return f"echo {name} >> {ran}  # counted {name}, 0 lines"


def check(record: Path, sandbox: Path, *, received: Sequence[Line] = ()) -> None:
    """Look at the record of a run that is over, and at its sandbox's directory.

    `received` is the sandbox's own journal, as it was on the disk before the fault.
    """
    check_record(record)
    lines = [line for line, _ in read_lines(record / "journal.jsonl")]
    check_journal(lines, sandbox / "workspace" / RAN, received=received)
    own = journal_of(sandbox)
    if own and Record.open(record).state().state in COLLECTED:
        assert [_told(line) for line in own[: len(lines)]] == [_told(line) for line in lines]
        missed = [line for line in own[len(lines) :] if line.get("op")]
        assert not missed, f"never collected: {missed}"
    check_nothing_left(record, sandbox)


def check_record(record: Path) -> None:
    """It verifies, says how the run ended, and its notebook is one."""
    report = verify(record)
    assert report.ok, "\n".join(map(str, report.findings))
    run = Record.open(record).state()
    assert run.is_over, f"the record leaves the run {run.state}"
    assert run.reason
    nbformat.validate(nbformat.read(record / "notebook.ipynb", as_version=4))


def check_journal(
    lines: Sequence[Line], ran: Path, *, received: Sequence[Line] = (), whole: bool = True
) -> None:
    """Each execution ended once, each line is there once, and no cell ran twice.

    `ran` is the file in which the cells say so; it is not `whole` where it went with its sandbox,
    and the next one had it as it was in the record. A sandbox server that was killed may have lost
    its last second: then it has restarted, and a cell may have run of which the journal knows
    nothing.
    """
    numbers = [line["seq"] for line in lines]
    assert numbers == list(range(1, len(lines) + 1)), f"the journal's lines: {numbers}"
    gone = [line for line in received if _told(line) not in map(_told, lines)]
    assert not gone, f"the server had received: {gone}"
    ends = Counter(line["op"] for line in lines if line["type"] == "end")
    assert set(ends.values()) <= {1}, f"ended twice: {ends}"
    states = {line["op"]: line["state"] for line in lines if line["type"] == "end"}
    assert set(states.values()) <= STATES, f"ended as {states}"
    times = Counter(ran.read_text().split() if ran.exists() else ())
    assert set(times.values()) <= {1}, f"ran twice: {times}"
    known = set()
    for op, name, total in _asked(lines):
        known.add(name)
        assert op in states, f"{name} never ended"
        numbers = _numbers(lines, op, name)
        assert numbers == list(range(len(numbers))), f"{name} printed {numbers}"
        if states[op] == "ok":
            assert times[name] or not whole, f"{name}: {times}"
            assert len(numbers) == total, f"{name}: {numbers}"
    restarted = sum(line["type"] == "boot" for line in lines) > 1
    assert restarted or set(times) <= known, f"ran, and the journal has nothing of it: {times}"


def check_told(run: Run) -> None:
    """The agent has heard of everything that was lost."""
    states = {line["op"]: line["state"] for line in run.journal() if line["type"] == "end"}
    heard = []
    for line in run.lines():
        if line["type"] == "tool_result" or line.get("role") == "user":
            heard.append("\n".join(block.get("text", "") for block in line["content"]))
        if line["type"] == "tool_result" and (words := LOST.get(states.get(line["op"], ""))):
            assert words in heard[-1]
    boots = {line["boot"] for line in run.journal() if line["type"] == "start"}
    if len(boots) > 1:
        assert any("variables are gone" in text or "all variables" in text for text in heard)


def check_nothing_left(record: Path, sandbox: Path) -> None:
    """No process, port, lock or directory of sockets, soon after the run's end.

    Directories of sockets are this run's where the test has a temporary directory of its own.
    """
    until(lambda: not list(processes_of(sandbox)), "its processes end", 30)
    check_let_go(record)
    assert not locks.is_held(Paths(sandbox).lock)
    port = read_handle(Paths(sandbox)).get("url", "").rpartition(":")[2]
    open_ports = {str(c.laddr.port) for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
    assert port not in open_ports
    assert not list(Path(tempfile.gettempdir()).glob(f"{RUNTIME_PREFIX}*"))
    assert not Paths(sandbox).venv.exists()


def check_let_go(record: Path) -> None:
    """Nobody holds it, and no part of a file is left in it."""
    assert not locks.is_held(record / ".lock")
    assert not [file for file in record.rglob("*") if file.suffix in (".part", ".tmp")]


def journal_of(sandbox: Path) -> list[dict[str, Any]]:
    """The sandbox's own journal as it is on the disk; a line that is half written is left out."""
    file = Paths(sandbox).journal
    raw = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in raw if line.endswith(b"}\n")]


class NotebookReader(threading.Thread):
    """Reads notebooks all along, and validates each version of them that it gets to see.

    A context; at its end it raises AssertionError if one of them was ever invalid, or gone
    after it had been there.
    """

    def __init__(self, *notebooks: Path) -> None:
        super().__init__(name="notebook reader", daemon=True)
        self.notebooks = notebooks
        self.problems: list[str] = []
        self.versions = 0
        self._seen: dict[Path, bytes] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            self.look()

    def look(self) -> None:
        """Read each of them once."""
        for file in self.notebooks:
            try:
                raw = file.read_bytes()
                if raw == self._seen.get(file):
                    continue
                self._seen[file] = raw
                nbformat.validate(nbformat.reads(raw.decode(), as_version=4))
                self.versions += 1
            except FileNotFoundError:
                if file in self._seen:
                    self.problems.append(f"{file} is gone")
            except Exception as error:
                self.problems.append(f"{file}: {error!r}")

    def __enter__(self) -> NotebookReader:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self.join()
        if kind is None:
            self.look()
            assert not self.problems, "\n".join(self.problems[:3])
            assert self.versions, "no notebook was seen"


def _asked(lines: Sequence[Line]) -> Iterator[tuple[str, str, int]]:
    """Operation, name and number of lines of each counted cell and command that was asked for."""
    for line in lines:
        asked = {"queued": line.get("source"), "shell": line.get("command")}.get(line["type"])
        if found := _COUNTED.search(asked or ""):
            yield line["op"], found[1], int(found[2])


def _numbers(lines: Sequence[Line], op: str, name: str) -> list[int]:
    """The numbers of the lines that a cell printed, as they came."""
    text = "".join(
        line["content"]["text"]
        for line in lines
        if line["type"] == "message" and line["op"] == op and line["msg_type"] == "stream"
    )
    return [int(number) for number in re.findall(rf"^{re.escape(name)} (\d+)$", text, re.MULTILINE)]


def _told(line: Line) -> tuple[Any, ...]:
    """What tells a line from another, in the record as in the sandbox's own journal."""
    return tuple(line[key] for key in ("seq", "time", "boot", "type"))
