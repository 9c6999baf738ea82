"""A run in containers: to the first cell's output, beside docker by hand and beside `local`.

`python bench/containers.py [--rounds N] [--json]` with TEST_BASE as for the tests on an engine;
README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import nbformat
from docker import DockerClient
from docker_lab import AUTHORITIES, DockerLab, images
from first_output import SAID, submitted
from sandbox_process import sandbox
from tiny_runs import Lab

from runner.images.engine import connected

WARM, TRIPS = 20, 200
IMAGE = "runner/bench:jupyter-execute"


def by_hand_image(client: DockerClient, base: str) -> None:
    """The sandbox's image with `jupyter execute` in it."""
    dockerfile = f"""
FROM {base}
COPY ca.crt /tmp/
RUN PIP_CERT=/tmp/ca.crt /opt/runner/bin/pip install --no-cache-dir nbclient jupyter-core
"""
    with tempfile.TemporaryDirectory() as top:
        Path(top, "Dockerfile").write_text(dockerfile)
        Path(top, "ca.crt").write_bytes(AUTHORITIES.read_bytes())
        client.images.build(path=top, tag=IMAGE, rm=True)


def by_hand(top: Path) -> float:
    """Seconds of `docker run IMAGE jupyter execute` of a notebook with the one cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"print({SAID!r})")])
    folder = top / "by-hand"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    file = folder / "x.ipynb"
    nbformat.write(notebook, file)
    file.chmod(0o666)
    begun = time.monotonic()
    subprocess.run(
        [
            *("docker", "run", "--rm", "--init", "--volume", f"{folder}:/mnt"),
            *("--entrypoint", "/opt/runner/bin/jupyter-execute", IMAGE),
            *("--inplace", "/mnt/x.ipynb"),
        ],
        check=True,
        capture_output=True,
    )
    took = time.monotonic() - begun
    assert SAID in file.read_text()
    return took


def trips(lab: DockerLab, top: Path) -> tuple[float, float]:
    """Median milliseconds of `1+1` in a container and on this machine, taken in turn."""
    times: dict[str, list[float]] = {"far": [], "near": []}
    run = lab.submit((), agent=False)
    top.mkdir()
    with run.session() as far, sandbox(top) as box, box.session() as near:
        for number in range(WARM + TRIPS):
            for name, session in (("far", far), ("near", near)):
                begun = time.perf_counter()
                session.run("1+1")
                if number >= WARM:
                    times[name].append(1000 * (time.perf_counter() - begun))
    lab.backend.delete(run.handle)
    lab.backend.delete_record(run.handle)
    lab.runs.clear()
    return statistics.median(times["far"]), statistics.median(times["near"])


def main() -> None:
    """Measure in turn, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    times: dict[str, list[float]] = {"docker": [], "by hand": [], "local": []}
    with connected() as client, tempfile.TemporaryDirectory() as name:
        top = Path(name)
        ours = images(client)
        tags = {"base": ours["images"][0], "agent": ours["agent"]}
        by_hand_image(client, tags["base"])
        (top / "docker").mkdir()
        lab = DockerLab(top / "docker")
        here = Lab(top / "local", backend="local")
        for _ in range(given.rounds):
            times["docker"].append(submitted(lab))
            times["by hand"].append(by_hand(top))
            times["local"].append(submitted(here))
        cell_ours, cell_local = trips(lab, top / "trips")
        lab.close()
        sizes = {name: client.images.get(tag).attrs["Size"] for name, tag in tags.items()}
    middle = {name: statistics.median(found) for name, found in times.items()}
    found: dict[str, Any] = {
        "first_output_s": middle,
        "cell_ms": {"docker": cell_ours, "local": cell_local},
        "image_bytes": sizes,
    }
    if given.json:
        print(json.dumps(found))
        return
    ours_s, hand, local = middle["docker"], middle["by hand"], middle["local"]
    print(f"submit to the first cell's output   {ours_s:6.2f} s")
    print(f"docker run, jupyter execute by hand {hand:6.2f} s   ratio {ours_s / hand:.2f}")
    print(f"the same run on `local`             {local:6.2f} s   ratio {ours_s / local:.2f}")
    print(f"1+1 in the container                {cell_ours:6.1f} ms")
    ratio = cell_ours / cell_local
    print(f"1+1 on this machine                 {cell_local:6.1f} ms  ratio {ratio:.2f}")
    for name, size in sizes.items():
        print(f"image {name:30}{size / 1e6:6.0f} MB")


if __name__ == "__main__":
    main()
