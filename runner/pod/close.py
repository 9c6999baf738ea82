"""`runner.pod close STATE STATUS REASON`: ends a record whose run ended without a word.

A pod that never ran, or was lost, writes no `end` line; a client that knows why does.
"""

from __future__ import annotations

from pathlib import Path

from runner.errors import UsageError
from runner.pod import layout
from runner.record.closing import close
from runner.record.run import ENDED

NO_STATUS = "none"
"""The exit status of a run that has none yet: one that can be resumed."""


def main(arguments: list[str]) -> int:
    """Write the end, unless there is one."""
    end(arguments, layout.RECORD)
    return 0


def end(arguments: list[str], path: Path) -> bool:
    """Write the end into the record at `path`; False where it had one after its last attempt."""
    state, status, reason = (*arguments, "", "", "")[:3]
    known = status == NO_STATUS or status.isdigit()
    if len(arguments) != 3 or state not in ENDED or not known:
        raise UsageError(
            f"runner.pod close: expected STATE STATUS REASON, STATE one of {', '.join(ENDED)}, "
            f"STATUS a number or {NO_STATUS}"
        )
    return close(path, state, reason, None if status == NO_STATUS else int(status))
