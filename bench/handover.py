"""A GPU's way from one run to the next in a queue of Kueue that has one.

`python bench/handover.py [--rounds N] [--json]` with KUBECONFIG and TEST_IMAGES as for the tests
on a cluster; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import cluster_access
from cluster_lab import ClusterLab
from tiny_runs import cell, end, held, until

from runner.backends.kubernetes import objects
from runner.backends.kubernetes.client import connect

QUOTA = {"cpu": 8, "memory": "64Gi", "ephemeral-storage": "1Ti", "nvidia.com/gpu": 1}
GPU = '[sandbox]\ngpu = ["A100"]\n'


def handed_over(lab: ClusterLab) -> tuple[float, float, float]:
    """Seconds from a run's end to: its quota free, the next pod's first container, its kernel."""
    first = lab.submit([cell(held()), end()], GPU)
    first.state("running")
    second = lab.submit([end()], GPU)
    until(lambda: "unused quota" in second.status.reason, "it waits")
    seen: dict[str, float] = {}

    def when(name: str, true: Callable[[Any], Any]) -> None:
        until(lambda: true(objects.snapshot(lab.client, second.run_id)), name)
        seen[name] = time.time()

    def look() -> None:
        when("free", lambda snap: not snap.job.suspended)
        when("started", lambda snap: snap.pod and any(c.started for c in snap.pod.containers))

    looking = threading.Thread(target=look)
    looking.start()
    first.let_go()
    first.over()
    second.over()
    looking.join()
    ended = _when(first.lines("end")[0])
    ready = _when(second.lines("sandbox")[0])
    for run in (first, second):
        lab.backend.delete(run.handle)
    return seen["free"] - ended, seen["started"] - ended, ready - ended


def _when(line: dict[str, Any]) -> float:
    return datetime.datetime.fromisoformat(line["time"]).timestamp()


@contextlib.contextmanager
def team(top: Path) -> Any:
    """A namespace whose queue has one GPU."""
    with (
        cluster_access.connected(cluster_access.kubeconfig()) as api,
        cluster_access.namespace(api, "bench-queue") as name,
    ):
        flavors = [{"name": name, "quota": QUOTA}]
        values = {"queue": {"name": "runs"}, "kueue": {"clusterQueue": name, "flavors": flavors}}
        cluster_access.install_chart(name, cluster_access.images(), top, values)
        yield ClusterLab(top, name, connect(None, name))


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, team(Path(folder)) as lab:
        rounds = [handed_over(lab) for _ in range(given.rounds)]
    names = ("free_s", "started_s", "kernel_s")
    result = {
        name: statistics.median(times)
        for name, times in zip(names, zip(*rounds, strict=True), strict=True)
    }
    if given.json:
        print(json.dumps(result))
        return
    print(f"end of a run to its quota given to the next   {result['free_s']:5.1f} s")
    print(f"… to the next one's first container           {result['started_s']:5.1f} s")
    print(f"… to the next one's kernel                    {result['kernel_s']:5.1f} s")


if __name__ == "__main__":
    main()
