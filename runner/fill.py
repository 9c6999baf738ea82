"""What a sandbox has of its run before anything starts in it: inputs, outputs, the journal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.plan import RunPlan
from runner.prepare import OUTPUTS
from runner.record import Record, place_of
from runner.record.chain import read_lines


def fill(plan: RunPlan, record: Record, workspace: Path) -> None:
    """Bring the plan's inputs into a workspace, and the outputs that the record has."""
    shutil.copytree(record.path / OUTPUTS, workspace / OUTPUTS, dirs_exist_ok=True)
    for output in record.state().outputs:
        if output.get("withheld") and (kept := record.path / place_of(output)).is_file():
            target = workspace / OUTPUTS / output["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(kept, target)
    for item in plan.inputs:
        target = workspace / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(record.input(item.sha256))
        target.chmod(item.mode)


def restore_journal(kept: Path, journal: Path) -> None:
    """Give a new sandbox the journal that the record has, unless its own is that and more."""
    if not kept.exists() or _continues(kept, journal):
        return
    part = journal.with_suffix(".part")
    with part.open("w") as file:
        for line, _ in read_lines(kept):
            line.pop("prev", None)
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    part.replace(journal)


def _continues(kept: Path, journal: Path) -> bool:
    """Whether the sandbox's journal begins with the record's: the run may have been elsewhere."""
    if not journal.exists():
        return False
    own = read_lines(journal)
    return all(_mark(line) == _mark(next(own, ({}, 0))[0]) for line, _ in read_lines(kept))


def _mark(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(key) for key in ("seq", "boot", "time", "type"))
