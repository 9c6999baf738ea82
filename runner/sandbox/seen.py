"""Secret values that a sandbox has had: those from before it was started again are masked too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path


def remembered(seen: Path, values: Iterable[str]) -> set[str]:
    """These values and those that an earlier server of this sandbox had, which are in `seen`.

    A Secret that is changed while a run goes on reaches the container when it is started
    again; files in the workspace may still hold the value from before. `seen` is in memory
    (a tmpfs), for this user alone. One that code of the experiment spoilt is begun anew.
    """
    try:
        before = {str(value) for value in json.loads(seen.read_text())}
    except (OSError, ValueError, TypeError):
        before = set()
    found = before | set(values)
    part = seen.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(sorted(found), file)
    part.replace(seen)
    return found
