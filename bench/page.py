"""The live page of a notebook of 1,000 cells and 50 MB in Chromium, beside one of one cell.

`python bench/page.py [--quick] [--json]`, with Debian's chromium and chromium-driver; README.md
says how to read it.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import psutil
from figures import Figure, run
from sandbox_process import sandbox
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

GROUP = "the live page in Chromium"
CELL_BYTES = 50_000
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--no-first-run", "--window-size=1200,900"),
)
PAINTED = """
const painted = performance.getEntriesByName("first-contentful-paint")[0];
return painted ? painted.startTime : null;
"""


def opened(ticket: Callable[[], str], cells: int) -> tuple[float, float, float]:
    """Milliseconds to the first paint and to the last cell's output; megabytes of its process.

    In a browser of its own, so that nothing is in its caches.
    """
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    service = Service("/usr/bin/chromedriver")
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get(ticket())
        painted = WebDriverWait(browser, 60).until(lambda b: b.execute_script(PAINTED))
        shown = WebDriverWait(browser, 120, 0.01).until(
            lambda b: b.execute_script(
                "const cells = document.querySelectorAll('[id^=cell-]');"
                f"return cells.length >= {cells} && cells[cells.length - 1].innerText"
                ".includes('xxx') && performance.now()"
            )
        )
        return painted, shown, memory_of_page(service.process.pid)
    finally:
        browser.quit()


def memory_of_page(driver: int) -> float:
    """Megabytes of the largest of the browser's processes that hold pages."""
    largest = 0
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # some of Chromium's end at once
            if "--type=renderer" in process.cmdline():
                largest = max(largest, process.memory_info().rss)
    return largest / 1e6


def measure(top: Path, quick: bool) -> list[Figure]:
    """Both notebooks, opened in turn."""
    cells, rounds = (20, 1) if quick else (1_000, 5)
    large, small = top / "large", top / "small"
    large.mkdir()
    small.mkdir()
    taken: dict[int, list[tuple[float, float, float]]] = {cells: [], 1: []}
    with contextlib.ExitStack() as at:
        full, single = (
            at.enter_context(at.enter_context(sandbox(place)).session()) for place in (large, small)
        )
        for session, count in ((full, cells), (single, 1)):
            session.run("line = 'x' * 99 + '\\n'", hidden=True)
            for _ in range(count):
                session.run(f"print(line * {CELL_BYTES // 100}, end='')")
        opened(single.ticket, 1)  # the browser's files are at hand then
        for _ in range(rounds):
            taken[cells].append(opened(full.ticket, cells))
            taken[1].append(opened(single.ticket, 1))
    middle = {
        count: [statistics.median(kind) for kind in zip(*times, strict=True)]
        for count, times in taken.items()
    }
    size = f"{cells:,} cells, {cells * CELL_BYTES / 1e6:g} MB"
    rows = (
        ("first paint", "ms"),
        ("the last cell's output", "ms"),
        ("memory of its process", "MB"),
    )
    return [
        Figure(GROUP, f"{what}: {size}", ours, unit, "one cell", theirs)
        for (what, unit), ours, theirs in zip(rows, middle[cells], middle[1], strict=True)
    ]


if __name__ == "__main__":
    run(measure, __doc__)
