"""What `doctor` found at one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `ok` is None where it stops no run but is worth knowing."""

    name: str
    ok: bool | None
    found: str
    mend: str = ""
