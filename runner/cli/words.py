"""Numbers, times and sizes as people read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime


def seconds(value: float | None) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if value is None:
        return ""
    if value < 9.95:
        return f"{max(value, 0.0):.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(value: int) -> str:
    """Bytes: `812 B`, `1.2 kB`, `34 MB`."""
    number = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return (
                f"{number:.0f} {unit}" if unit == "B" or number >= 9.95 else f"{number:.1f} {unit}"
            )
        number /= 1000
    return f"{number:.1f} TB"


def dollars(value: float | None) -> str:
    """Dollars; `?` where the price is not known."""
    if value is None:
        return "$?"
    return f"${value:.2f}" if value >= 0.995 or value == 0 else f"${value:.3f}"


def count(value: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 turn`, `12,345 tokens`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def moment(time: str | None) -> datetime | None:
    """The time of a record's line; None where there is none that can be read."""
    try:
        return datetime.fromisoformat(time or "")
    except ValueError:
        return None


def clock(time: str | None) -> str:
    """The time of a record's line on the user's clock."""
    when = moment(time)
    return when.astimezone().strftime("%H:%M:%S") if when else ""


def between(start: str | None, end: str | None, now: datetime | None = None) -> float | None:
    """Seconds from one time of a record to another, or to `now`; None if it has not begun."""
    begun, ended = moment(start), moment(end) or now or datetime.now(UTC)
    return (ended - begun).total_seconds() if begun else None


def hours(seconds: float) -> str:
    """GPU seconds as hours, or minutes where they are few."""
    if seconds < 600:
        return f"{seconds / 60:.1f} GPU minutes"
    return f"{seconds / 3600:.2f} GPU hours"


def tokens(kinds: Mapping[str, int]) -> int:
    """Tokens of every kind together."""
    return sum(kinds.values())


def ends(count: int, most: int) -> tuple[int, int]:
    """How many of so many lines are shown at the head and the tail, if one line says so between."""
    if count <= most:
        return count, 0
    head = (most - 1) * 2 // 3
    return head, most - 1 - head


def gap(left: int) -> str:
    """The line that stands for lines left out."""
    return f"… {left:,} more lines …"


def cut(lines: Sequence[str], most: int, wide: int) -> list[str]:
    """At most `most` lines: the first and last ones, and how many are between; none too wide."""
    head, tail = ends(len(lines), most)
    left = len(lines) - head - tail
    shown = [*lines[:head], *([gap(left)] if left else []), *lines[len(lines) - tail :]]
    return [line if len(line) <= wide else f"{line[: wide - 1]}…" for line in shown]
