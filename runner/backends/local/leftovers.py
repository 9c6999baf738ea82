"""What is in the state directory: the sandboxes of this machine's runs, whatever became of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import locks
from runner.backends.local.paths import Paths
from runner.record import Record


@dataclass(frozen=True)
class Leftover:
    """One directory. `record` is None where it is gone; `pid` is that of the first process."""

    run_id: str
    root: Path
    record: Path | None
    sandbox: bool
    agent: bool
    pid: int | None


def leftovers(state_dir: Path) -> Iterator[Leftover]:
    """The directory of every run that has an agent; one without it ends by its idle time."""
    for root in sorted(state_dir.iterdir()) if state_dir.is_dir() else ():
        paths = Paths(root)
        data: dict[str, str] = {}
        record: Path | None = None
        with contextlib.suppress(OSError, ValueError, KeyError):
            if not json.loads(paths.plan.read_text())["agent"]:
                continue
            data = json.loads(paths.handle.read_text())
            record = Path(json.loads(paths.agent_options.read_text())["record"])
        agent = False
        if record is not None and (record / "transcript.jsonl").is_file():
            agent = Record.open(record).alive()
        else:
            record = None
        pid = data.get("sandbox", "").partition("@")[0]
        yield Leftover(
            run_id=root.name,
            root=root,
            record=record,
            sandbox=locks.is_held(paths.lock),
            agent=agent,
            pid=int(pid) if pid.isdigit() else None,
        )
