"""What is shown of the figures: the table in docs/performance.md, and the plot beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import table
from round_trip import GROUP

BEGIN, END = "<!-- made by `make bench` -->", "<!-- end -->"
GOOD, BAD, PLAIN = "#2b7a5b", "#c0442b", "#4a5a6a"
Found = Mapping[str, Any]


def page(text: str, found: Found) -> str:
    """The page with these figures between its marks."""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert mark and end, f"a page with {BEGIN} and {END}"
    machine = "; ".join(f"{name} {words}" for name, words in found["machine"].items())
    header, *rows = table(found["figures"])
    lines = [header, ["---"] * len(header), *rows]
    told = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{before}{BEGIN}\n{found['date']}: {machine}.\n\n{told}\n{END}{after}"


def plot(found: Found, file: Path) -> None:
    """Round trips side by side, and how much of each promise is used up."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(14, 6.5), width_ratios=(4, 5), layout="constrained"
    )
    _round_trips(left, found["figures"])
    _promises(right, [row for row in found["figures"] if row["share"] is not None])
    figure.savefig(file, dpi=90)
    pyplot.close(figure)


def _round_trips(axes: Any, rows: list[Found]) -> None:
    trips: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["group"] == GROUP:
            percent, _, size = row["what"].partition(" ")
            ours = f"this session\n{size.removeprefix('in a notebook of ')}".strip()
            trips.setdefault(ours, {})[percent] = row["ours"]
            if not size:
                trips.setdefault(row["beside"], {})[percent] = row["theirs"]
    for at, (name, times) in enumerate(reversed(trips.items())):
        colour = GOOD if name.startswith("this session") else PLAIN
        axes.plot([times["p50"], times["p99"]], [at, at], color=colour, linewidth=2, alpha=0.5)
        axes.plot(times["p50"], at, "o", color=colour, markersize=9)
        axes.plot(times["p99"], at, "|", color=colour, markersize=12)
        axes.annotate(f"{times['p50']:g}", (times["p50"], at), (0, 9), textcoords="offset points",
                      ha="center", color=colour)  # fmt: skip
    axes.set_yticks(range(len(trips)), list(reversed(trips)))
    axes.set_ylim(-0.6, len(trips) - 0.3)
    _logarithmic(axes)
    axes.set_xlabel("ms, p50 (dot) to p99 (bar)")
    axes.set_title("round trip of a cell, 1+1")
    _bare(axes)


def _promises(axes: Any, rows: list[Found]) -> None:
    for at, row in enumerate(reversed(rows)):
        colour = GOOD if row["met"] else BAD
        axes.plot([1, row["share"]], [at, at], color=colour, linewidth=2, alpha=0.5)
        axes.plot(row["share"], at, "o", color=colour, markersize=9)
        axes.annotate(f"{row['ours']:g} {row['unit']}", (1, at), (1.01, at),
                      xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
                      va="center", color=colour)  # fmt: skip
    axes.axvline(1, color=PLAIN, linewidth=1)
    axes.set_yticks(range(len(rows)), list(map(_promise, reversed(rows))), fontsize=8)
    _logarithmic(axes)
    axes.set_xlabel("share of what is allowed: left of 1 the promise is kept")
    axes.set_title("the promises")
    _bare(axes)


def _promise(row: Found) -> str:
    """What was promised of what; a ratio names what it is one to."""
    beside = f" {row['beside']}" if row["target"].endswith("×") else ""
    return f"{row['group']}: {row['what']}  {row['target']}{beside}"


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bare(axes: Any) -> None:
    axes.grid(axis="x", alpha=0.2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
