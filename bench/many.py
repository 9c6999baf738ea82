"""Many runs from one submit, in a queue for a few GPUs; `list` and `status` meanwhile.

`python bench/many.py [--runs N] [--gpus N] [--json]` with KUBECONFIG and TEST_IMAGES as for the
tests on a cluster; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import cluster_access
from command_line import CommandLine
from faulty_runs import GPU, write
from tiny_runs import cell, end

from runner.backends.kubernetes.client import connect

SOURCE = "import os; open('outputs/seed.txt', 'w').write(os.environ['SEED'])"
QUOTA = {"cpu": 64, "memory": "256Gi", "ephemeral-storage": "4Ti"}
IDLE, EVERY_S = 5, 3.0
"""Looks at the idle cluster; and the time from one look to the next one while runs go on."""


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a command takes, which has to succeed."""
    began = time.monotonic()
    told = call()
    assert told.status == 0, told
    return time.monotonic() - began


class Looks:
    """`list` and `status`, typed again and again in another directory, until the sweep is over."""

    def __init__(self, line: CommandLine, sweep: str, run: str) -> None:
        self.lists: list[float] = []
        self.statuses: list[float] = []
        self._line, self._sweep, self._run = line, sweep, run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat)

    def __enter__(self) -> Looks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(EVERY_S):
            self.lists.append(timed(lambda: self._line("list", "--sweep", self._sweep)))
            self.statuses.append(timed(lambda: self._line("status", self._run)))


def measure(line: CommandLine, elsewhere: CommandLine, count: int) -> dict[str, Any]:
    """One run alone, then all of them."""
    file = write(line, [cell(SOURCE), end()], GPU)
    one = line("submit", file, "--set=sandbox.env.SEED=0", "--json")  # pulls the images
    assert one.status == 0, one
    alone = one.data["run_id"]
    idle = {
        name: statistics.median(timed(lambda words=words: elsewhere(*words)) for _ in range(IDLE))
        for name, words in (("list", ["list"]), ("status", ["status", alone]))
    }
    sets = [f"--set=sandbox.env.SEED={number}" for number in range(1, count + 1)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "submit", file, *sets, "--json"],
        cwd=line.folder,
        env={**kept, "PYTHONPATH": str(Path(__file__).parent.parent), **line.env},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        began = time.monotonic()
        first = json.loads(process.stdout.readline())
        launched = [time.monotonic()]
        states: Counter[str] = Counter()
        sweep = first["sweep"]["id"]
        with Looks(elsewhere, sweep, first["run_id"]) as looks:
            for text in process.stdout:
                said = json.loads(text)
                if said["event"] == "launch":
                    launched.append(time.monotonic())
                elif said["event"] == "end":
                    states[said["state"]] += 1
            ended = time.monotonic()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    here = list((line.folder / "runs").glob(f"{sweep}-*/outputs/seed.txt"))
    lists, statuses = sorted(looks.lists), sorted(looks.statuses)
    return {
        "runs": count,
        "states": states,
        "records_here": len(here),
        "to_first_s": launched[0] - began,
        "submissions_per_s": (len(launched) - 1) / (launched[-1] - launched[0]),
        "all_started_s": launched[-1] - began,
        "all_ended_s": ended - began,
        "client_peak_mb": used.ru_maxrss / 1024,
        "looks": len(lists),
        "list_idle_s": idle["list"],
        "list_p95_s": p95(lists),
        "list_ratio": p95(lists) / idle["list"],
        "status_idle_s": idle["status"],
        "status_p95_s": p95(statuses),
        "status_ratio": p95(statuses) / idle["status"],
    }


def p95(times: list[float]) -> float:
    """The time that 95 of 100 do not exceed."""
    return times[min(len(times) - 1, int(0.95 * len(times)))]


def main() -> None:
    """In a namespace of its own, which is removed at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kubeconfig = cluster_access.kubeconfig()
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster_access.connected(kubeconfig) as api,
        cluster_access.namespace(api, "many") as name,
    ):
        quota = QUOTA | {"nvidia.com/gpu": given.gpus}
        queue = {"clusterQueue": name, "flavors": [{"name": name, "quota": quota}]}
        values = {"queue": {"name": "runs"}, "kueue": queue}
        cluster_access.install_chart(name, cluster_access.images(), Path(folder), values)
        named = {"RUNNER_BACKEND": "kubernetes", "RUNNER_KUBERNETES__NAMESPACE": name}
        line = CommandLine(Path(folder) / "here", KUBECONFIG=str(kubeconfig), **named)
        result = measure(line, line.there(Path(folder) / "elsewhere"), given.runs)
        left = connect(None, name).list("jobs", labels="runner/sweep")
        assert len(left) == given.runs
    if given.json:
        print(json.dumps(result))
        return
    ends = ", ".join(f"{count} {state}" for state, count in result["states"].items())
    print(f"{given.runs} runs, {given.gpus} GPUs: {ends}; {result['records_here']} records here")
    print(f"submissions                {result['submissions_per_s']:7.2f} per second")
    print(f"all started                {result['all_started_s']:7.1f} s")
    print(f"all ended                  {result['all_ended_s']:7.1f} s")
    print(f"client's peak memory       {result['client_peak_mb']:7.0f} MB")
    for word in ("list", "status"):
        print(
            f"{word + ', p95':27}{result[f'{word}_p95_s']:7.2f} s   "
            f"idle {result[f'{word}_idle_s']:.2f} s, ratio {result[f'{word}_ratio']:.2f}"
        )


if __name__ == "__main__":
    main()
