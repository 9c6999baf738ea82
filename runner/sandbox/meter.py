"""How much the GPUs of a sandbox are used, and for how long they are not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

SMI, ACTIVITY = "nvidia-smi", "kernel activity"
"""Where it is known from."""
USED_AT = 3
"""Percent of the time in which something ran on a GPU: from here on it is in use."""
NEAR = 0.5
"""Share of the time that GPUs may be unused at which whoever drives the sandbox is told."""


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of one GPU; None where it does not tell."""

    percent: int | None
    memory_mib: int | None


@dataclass(frozen=True)
class Reading:
    """How many GPUs are in use, from where that is known, and what was seen, in words."""

    in_use: int
    source: str
    seen: str


def parse(listing: str, uuids: Sequence[str] = ()) -> list[Gpu]:
    """The GPUs in nvidia-smi's CSV of uuid, utilisation and MiB; only these, if any are named.

    A value that is no number (`[N/A]` with MIG, `[Not Supported]`, `ERR!`) is not known.
    """
    rows = [[part.strip() for part in line.split(",")] for line in listing.splitlines()]
    return [
        Gpu(*(int(text) if text.isdecimal() else None for text in row[1:]))
        for row in rows
        if len(row) == 3 and (row[0] in uuids if uuids else row[0].startswith("GPU-"))
    ]


def of_smi(gpus: Sequence[Gpu]) -> Reading | None:
    """What they amount to; None where nvidia-smi tells of none of them how busy it is."""
    known = [gpu.percent for gpu in gpus if gpu.percent is not None]
    if not known:
        return None
    held = sum(gpu.memory_mib or 0 for gpu in gpus) / 1024
    seen = f"{SMI} shows {max(known)} %, and {held:.1f} GiB of memory held"
    return Reading(sum(percent >= USED_AT for percent in known), SMI, seen)


def of_activity(count: int, *, active: bool) -> Reading:
    """The same from what ran since the last look: all GPUs are in use, or none."""
    seen = "no cell or command ran, and nvidia-smi does not tell"
    return Reading(count if active else 0, ACTIVITY, seen)


class Meter:
    """GPU seconds used, and since when no GPU is. Times are of one clock, in seconds.

    Counts from `begin`. With `limit_s`, `take` says once in each idle stretch that it is time
    to tell of it, and then, once for all, that the limit is reached.
    """

    def __init__(
        self, count: int, limit_s: float | None, begin: float, used_s: float = 0.0
    ) -> None:
        self.count, self.limit_s, self.used_s = count, limit_s, used_s
        self.source = self._seen = ""
        self.over_at: float | None = None
        """When the limit was reached."""
        self._in_use = 0
        self._looked = self._idle_since = begin
        self._told = False

    def take(self, time: float, found: Reading | None) -> Literal["", "near", "over"]:
        """Count the time since the last look as what is found now; None: as it was before."""
        if found is not None:
            self._in_use, self.source = min(found.in_use, self.count), found.source
            self._seen = found.seen
        self.used_s += self._in_use * (time - self._looked)
        self._looked = time
        if self._in_use:
            self._idle_since, self._told = time, False
        if self.limit_s is None or self.over_at is not None:
            return ""
        if self.idle_s >= NEAR * self.limit_s and not self._told:
            self._told = True
            return "near"
        if self.idle_s >= self.limit_s:
            self.over_at = time
            return "over"
        return ""

    @property
    def idle_s(self) -> float:
        """For how long no GPU is in use."""
        return self._looked - self._idle_since

    def unused(self, now: datetime) -> str:
        """Since when no GPU is in use, and how that is known."""
        who = "the GPU was" if self.count == 1 else f"none of the {self.count} GPUs was"
        what = "not used" if self.count == 1 else "used"
        since = now - timedelta(seconds=self.idle_s)
        return f"{who} {what} for {span(self.idle_s)} (since {since:%H:%M:%S} UTC; {self._seen})"

    def view(self) -> dict[str, Any]:
        """As the journal has it."""
        return {
            "count": self.count,
            "source": self.source,
            "used_s": round(self.used_s, 3),
            "idle_s": round(self.idle_s, 3),
        }


def span(seconds: float) -> str:
    """A time in words."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} seconds"
