"""A run on a cluster: to the first cell's output, to the free GPU, and a cell through the tunnel.

`python bench/cluster.py [--rounds N] [--json]` with KUBECONFIG and TEST_IMAGES as for the tests on
a cluster; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import cluster_access
import this_machine
from cluster_lab import trusted
from git_server import git_server
from sandbox_process import sandbox
from tiny_runs import Lab, Run, cell, end, until

from runner import submission
from runner.backends.kubernetes import manifests, objects
from runner.backends.kubernetes.backend import KubernetesBackend
from runner.backends.kubernetes.client import connect
from runner.record import read_lines

SAID = "output of the first cell"
SOURCE = f"print({SAID!r})"
TRIPS, WARM = 50, 5
SLOW = ("PYTHONDONTWRITEBYTECODE",)
"""With it Python compiles every module at each start, which no user's does."""
BY_HAND = f"""
import json, pathlib, time
from runner.pod import layout
from runner.session import Endpoint, Session
session = Session(Endpoint(f"http://127.0.0.1:{{layout.PORT}}", layout.TOKEN.read_text()))
session.connect(60)
print(session.run({SOURCE!r}).text)
"""
PYTHON = ("/opt/runner/bin/python", "-P", "-c", BY_HAND)


class Team:
    """A namespace with the chart, this machine's client for it, and an experiment with a repo."""

    def __init__(self, top: Path, namespace: str, repo: str) -> None:
        self.toml = f'[sandbox]\nrepos = ["{repo}"]\n'
        os.environ["RUNNER_KUBERNETES__NAMESPACE"] = namespace
        self.lab = Lab(top, backend="kubernetes", kubernetes={"namespace": namespace})
        assert isinstance(self.lab.backend, KubernetesBackend)
        self.namespace, self.backend = namespace, self.lab.backend


@contextlib.contextmanager
def team(top: Path) -> Iterator[Team]:
    """On the cluster of KUBECONFIG; removed at the end."""
    with (
        cluster_access.connected(cluster_access.kubeconfig()) as api,
        cluster_access.namespace(api, "bench") as name,
    ):
        cluster_access.install_chart(name, cluster_access.images(), top)
        with (
            git_server(top / "git", address=this_machine.address()) as server,
            trusted(connect(None, name), server.ca),
        ):
            server.add_repo("lib", {"lib.py": "x = 1\n"})
            os.environ["GIT_SSL_CAINFO"] = str(server.ca)
            yield Team(top, name, server.url("lib"))


def submitted(it: Team) -> tuple[float, dict[str, float], list[float]]:
    """Seconds from typing `submit` to the output on its stdout, its phases, and from the run's end.

    Those are to nothing on the GPU, and to a GPU that the scheduler can give away.
    """
    file = it.lab.write([cell(SOURCE), end()], it.toml)
    began, then = time.monotonic(), time.time()
    words = [sys.executable, "-m", "runner", "submit", str(file), "--backend", "kubernetes"]
    kept = {name: value for name, value in os.environ.items() if name not in SLOW}
    with subprocess.Popen(
        [*words, "--runs", it.lab.settings.runs],
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        run_id, took = "", 0.0
        freed: list[float] = []
        for line in process.stdout:
            run_id = line.split()[1] if line.startswith("run ") else run_id
            if f"| {SAID}" in line and not took:
                took = time.monotonic() - began
                run = it.lab.adopt(it.backend.attach(run_id))
                looking = threading.Thread(target=_look, args=(it, run, freed))
                looking.start()
        assert process.wait() == 0
    looking.join()
    seen = then + took
    phases = phases_of(run, then, seen)
    it.backend.delete(run.handle)
    ended = _time(run.lines("end")[0])
    return took, phases, [then - ended for then in freed]


def phases_of(run: Run, began: float, seen: float) -> dict[str, float]:
    """Where the time went, by the clocks of this machine, which is the node."""
    journal = [line for line, _ in read_lines(run.path / "journal.jsonl")]
    sandbox = run.lines("sandbox")[0]
    steps = {phase["name"]: phase for phase in sandbox["phases"]}
    points = {
        "checks": _time(run.lines("run")[0]),
        "API, schedule": _iso(steps["filling"]["started"]),
        "fill": _iso(steps["filling"]["ended"]),
        "clone": _iso(steps["cloning"]["ended"]),
        "server": _time(journal[0]),
        "kernel": _time(sandbox),
        "first cell": next(
            _time(line) for line in journal if SAID in json.dumps(line.get("content"))
        ),
        "to the terminal": seen,
    }
    ordered = dict(sorted(points.items(), key=lambda item: item[1]))
    took, last = {}, began
    for name, point in ordered.items():
        took[name], last = point - last, point
    return took


def by_hand(it: Team) -> float:
    """Seconds from `kubectl apply` of the same pod to the output of the cell, run in it."""
    prepared = it.lab.prepare([cell(SOURCE), end()], it.toml)
    plan, cluster = prepared.plan, it.backend.cluster
    handle = submission.start(prepared, it.lab.settings)  # its record and ConfigMap, once
    made = it.backend.client.read("configmaps", manifests.job_name(plan.run_id, 1))
    it.backend.delete(handle)
    until(lambda: not it.backend.client.list("pods", labels=f"runner/run={plan.run_id}"), "gone")
    for key in ("ownerReferences", "uid", "resourceVersion", "creationTimestamp"):
        made["metadata"].pop(key, None)
    job = manifests.job(plan, cluster, 1, suspended=False)
    agent = job["spec"]["template"]["spec"]["containers"][0]
    agent["command"] = [*agent["command"][:-1], "hold", "60"]  # nobody drives it
    things = [
        {**made, "apiVersion": "v1", "kind": "ConfigMap"},
        manifests.secret(plan, 1, None, "token-of-the-bench"),
        job,
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": things})
    kubectl = ["kubectl", "--namespace", it.namespace]
    began = time.monotonic()
    subprocess.run([*kubectl, "apply", "-f", "-"], input=text, text=True, check=True, stdout=-3)
    name = f"job/{manifests.job_name(plan.run_id, 1)}"
    ready = ["wait", "--for=jsonpath={.status.ready}=1", "--timeout=60s", name]
    subprocess.run([*kubectl, *ready], check=True, stdout=-3)
    ran = subprocess.run(
        [*kubectl, "exec", name, "--container", "sandbox", "--", *PYTHON],
        check=True,
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - began
    assert SAID in ran.stdout
    subprocess.run([*kubectl, "delete", "--wait=false", name], check=True, stdout=-3)
    return took


def _look(it: Team, run: Run, freed: list[float]) -> None:
    """When the API server knows that nothing uses the GPU, and that it can be given away."""

    def pod() -> Any:
        return objects.snapshot(it.backend.client, run.run_id).pod

    until(lambda: pod().container("sandbox").state == "terminated", "the sandbox is over")
    freed.append(time.time())
    until(lambda: pod().over, "the pod is over")
    freed.append(time.time())


def trips(it: Team, top: Path) -> tuple[float, float]:
    """Median milliseconds of `1+1` through the tunnel, and on this machine, taken in turn."""
    run = it.lab.submit((), agent=False)
    (top / "near").mkdir()
    with run.session() as far, sandbox(top / "near") as box, box.session() as near:
        times: dict[str, list[float]] = {"far": [], "near": []}
        for number in range(WARM + TRIPS):
            for name, session in (("far", far), ("near", near)):
                began = time.perf_counter()
                session.run("1+1")
                if number >= WARM:
                    times[name].append(1000 * (time.perf_counter() - began))
    it.backend.delete(run.handle)
    return statistics.median(times["far"]), statistics.median(times["near"])


def _time(line: dict[str, Any]) -> float:
    return _iso(line["time"])


def _iso(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Measure in turn, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, team(Path(folder)) as it:
        submitted(it)  # pulls the images
        rounds = [(submitted(it), by_hand(it)) for _ in range(given.rounds)]
        far, near = trips(it, Path(folder))
    ours = statistics.median(took for (took, _, _), _ in rounds)
    hand = statistics.median(took for _, took in rounds)
    names = rounds[0][0][1]
    result = {
        "submit_s": ours,
        "by_hand_s": hand,
        "ratio": ours / hand,
        "phases_s": {
            name: statistics.median(phases[name] for (_, phases, _), _ in rounds) for name in names
        },
        "end_to_unused_gpu_s": max(freed[0] for (_, _, freed), _ in rounds),
        "end_to_free_gpu_s": max(freed[1] for (_, _, freed), _ in rounds),
        "cell_tunnel_ms": far,
        "cell_local_ms": near,
        "cell_ratio": far / near,
    }
    if given.json:
        print(json.dumps(result))
        return
    print(f"submit to the first cell's output   {ours:6.2f} s")
    for name, took in result["phases_s"].items():
        print(f"    {name:32}{took:6.2f} s")
    print(f"kubectl apply, the cell by hand     {hand:6.2f} s   ratio {ours / hand:.2f}")
    print(f"end of the run to an unused GPU     {result['end_to_unused_gpu_s']:6.2f} s at most")
    print(f"… to one that is given away         {result['end_to_free_gpu_s']:6.2f} s at most")
    print(f"1+1 through the tunnel              {far:6.1f} ms")
    print(f"1+1 on this machine                 {near:6.1f} ms  ratio {far / near:.2f}")


if __name__ == "__main__":
    main()
