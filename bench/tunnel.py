"""HTTP into a pod: the pod's address, this tunnel, and `kubectl port-forward`, beside each other.

`python bench/tunnel.py [--rounds N] [--json]` with KUBECONFIG and TEST_IMAGES as for the tests on
a cluster; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import cluster_access
import httpx
from streaming_pod import HTTP, NAME, connect_as, streaming_pod

from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.tunnel import forward

SIZE = 100_000_000
WARM = 5


@contextlib.contextmanager
def direct(address: str) -> Iterator[str]:
    """The pod's own address, where this machine can reach it: on a node."""
    yield f"http://{address}:{HTTP}"


@contextlib.contextmanager
def ours(client: Client) -> Iterator[str]:
    """The tunnel."""
    with forward(client, NAME, HTTP) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def kubectl(namespace: str) -> Iterator[str]:
    """What everybody types."""
    words = ["kubectl", "port-forward", "--namespace", namespace, f"pod/{NAME}", f":{HTTP}"]
    with subprocess.Popen(
        [*words, "--address", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            assert started.stdout is not None
            said = re.search(r"127\.0\.0\.1:(\d+)", started.stdout.readline())
            assert said, "kubectl port-forward did not start"
            yield f"http://127.0.0.1:{said[1]}"
        finally:
            started.terminate()


def blocks() -> Iterator[bytes]:
    """What is sent up. In one piece httpx would copy what is left of it at every send."""
    yield from (b"x" * 1_000_000 for _ in range(SIZE // 1_000_000))


def measure(ways: dict[str, httpx.Client], rounds: int) -> dict[str, dict[str, float]]:
    """Each way once in every round: what slows one slows all."""
    trips: dict[str, list[float]] = {name: [] for name in ways}
    speeds: dict[str, dict[str, list[float]]] = {name: {"down": [], "up": []} for name in ways}
    for round_ in range(rounds + WARM):
        for name, http in ways.items():
            began = time.perf_counter()
            http.get("/1").raise_for_status()
            if round_ >= WARM:
                trips[name].append((time.perf_counter() - began) * 1e3)
    size = {"Content-Length": str(SIZE)}
    for _ in range(max(3, rounds // 40)):
        for name, http in ways.items():
            began = time.perf_counter()
            assert len(http.get(f"/{SIZE}").content) == SIZE
            speeds[name]["down"].append(SIZE / 1e6 / (time.perf_counter() - began))
            began = time.perf_counter()
            assert http.post("/", content=blocks(), headers=size).text == str(SIZE)
            speeds[name]["up"].append(SIZE / 1e6 / (time.perf_counter() - began))
    return {
        name: {
            "p50_ms": round(statistics.median(trips[name]), 2),
            "p90_ms": round(statistics.quantiles(trips[name], n=10)[-1], 2),
            "down_mb_s": round(statistics.median(speeds[name]["down"])),
            "up_mb_s": round(statistics.median(speeds[name]["up"])),
        }
        for name in ways
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kubeconfig = Path(os.environ["KUBECONFIG"])
    with contextlib.ExitStack() as at:
        api = at.enter_context(cluster_access.connected(kubeconfig))
        namespace = at.enter_context(cluster_access.namespace(api, "bench"))
        client = connect_as(kubeconfig, namespace)
        address = at.enter_context(streaming_pod(client, cluster_access.images()))
        urls = {
            "pod address, direct": at.enter_context(direct(address)),
            "this tunnel": at.enter_context(ours(client)),
            "kubectl port-forward": at.enter_context(kubectl(namespace)),
        }
        ways = {
            name: at.enter_context(httpx.Client(base_url=url, timeout=120, trust_env=False))
            for name, url in urls.items()
        }
        found = measure(ways, options.rounds)
    if options.json:
        print(json.dumps({"rounds": options.rounds, "rows": found}, indent=1))
        return
    print(f"{'way':24} {'p50':>9} {'p90':>9} {'down':>10} {'up':>10}")
    for name, row in found.items():
        print(
            f"{name:24} {row['p50_ms']:6} ms {row['p90_ms']:6} ms"
            f" {row['down_mb_s']:5} MB/s {row['up_mb_s']:5} MB/s"
        )


if __name__ == "__main__":
    main()
