"""All figures of this machine in one run, with their targets; written down in docs/.

`python bench/performance.py [--quick]`, or `make bench`; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests")]

import commands
import containers
import first_output
import idle
import lines
import memory
import page
import psutil
import report
import round_trip
import transfer
from figures import Figure, show

PARTS: tuple[Callable[[Path, bool], list[Figure]], ...] = (
    round_trip.measure,
    lines.measure,
    memory.measure,
    transfer.measure,
    first_output.measure,
    commands.measure,
    idle.measure,
)
if shutil.which("chromedriver"):
    PARTS += (page.measure,)
if os.environ.get("TEST_BASE"):
    PARTS += (containers.measure,)
BESIDE = ("jupyter-server", "jupyter-client", "ipykernel", "nbclient", "jupyter-kernel-client")


def machine() -> dict[str, str]:
    """What the figures were measured on; nothing that tells whose machine it is."""
    return {
        "processor": f"{_processor()}, {psutil.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        **{name: metadata.version(name) for name in BESIDE},
        **dict([(Path(__file__).with_name("peers.txt").read_text().strip().split("=="))]),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = (line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def write(found: dict[str, Any], into: Path) -> None:
    """The figures as JSON, as a plot, and in the page."""
    (into / "performance.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    report.plot(found, into / "performance.png")
    page = TOP / "docs" / "performance.md"
    (into / "performance.md").write_text(report.page(page.read_text(), found))


def main() -> None:
    """One part after the other, and within a part all ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that it works; into build/"
    )
    given = parser.parse_args()
    into = TOP / ("build/performance" if given.quick else "docs")
    into.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    found["figures"] = []
    for measure in PARTS:
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as top:
            rows = [figure.as_json() for figure in measure(Path(top), given.quick)]
        show(rows)
        print(flush=True)
        found["figures"] += rows
        write(found, into)  # as far as it is: the rest takes minutes
    promised = [row["met"] for row in found["figures"] if row["met"] is not None]
    print(f"{sum(promised)} of {len(promised)} targets are met; {into.relative_to(TOP)}/ has all")


if __name__ == "__main__":
    main()
