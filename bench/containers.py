"""A run in containers: to the first cell's output, beside docker by hand and beside `local`.

`python bench/containers.py [--quick] [--json]` with TEST_BASE as for the tests on an engine;
README.md says how to read it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import nbformat
from docker import DockerClient
from docker_lab import AUTHORITIES, DockerLab, images
from figures import Figure, Target, in_turn, run
from first_output import SAID, submitted
from sandbox_process import sandbox
from tiny_runs import Lab

from runner.images.engine import connected

GROUP = "on a Docker engine"
OURS, BY_HAND, LOCAL = "ours", "docker run, jupyter execute by hand", "the same on `local`"
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


def trips(lab: DockerLab, top: Path, count: int) -> tuple[float, float]:
    """Median milliseconds of `1+1` in a container and on this machine, taken in turn."""
    times: dict[str, list[float]] = {"far": [], "near": []}
    run = lab.submit((), agent=False)
    top.mkdir()
    with run.session() as far, sandbox(top) as box, box.session() as near:
        for number in range(WARM + count):
            for name, session in (("far", far), ("near", near)):
                begun = time.perf_counter()
                session.run("1+1")
                if number >= WARM:
                    times[name].append(1000 * (time.perf_counter() - begun))
    lab.backend.delete(run.handle)
    lab.backend.delete_record(run.handle)
    lab.runs.clear()
    return statistics.median(times["far"]), statistics.median(times["near"])


def measure(top: Path, quick: bool) -> list[Figure]:
    """Runs and cells, each way in turn, and the sizes of the images."""
    with connected() as client:
        ours = images(client)
        tags = {"base": ours["images"][0], "agent": ours["agent"]}
        by_hand_image(client, tags["base"])
        (top / "docker").mkdir()
        lab, here = DockerLab(top / "docker"), Lab(top / "local", backend="local")
        ways = {
            OURS: lambda: submitted(lab),
            BY_HAND: lambda: by_hand(top),
            LOCAL: lambda: submitted(here),
        }
        taken = in_turn(ways, 1 if quick else 5, warm=0 if quick else 1)
        far, near = trips(lab, top / "trips", 20 if quick else TRIPS)
        lab.close()
        here.close()
        sizes = {name: client.images.get(tag).attrs["Size"] / 1e9 for name, tag in tags.items()}
    first = {name: statistics.median(times) for name, times in taken.items()}
    what = "submit to the first cell's output"
    most = Target("ratio", most=1.5)
    return [
        Figure(GROUP, what, first[OURS], "s", BY_HAND, first[BY_HAND], most),
        Figure(GROUP, what, first[OURS], "s", LOCAL, first[LOCAL]),
        Figure(GROUP, "1+1 in the container", far, "ms", LOCAL, near, Target("ratio", most=1.2)),
        Figure(GROUP, "image base", sizes["base"], "GB", target=Target("figure", most=1.0)),
        Figure(GROUP, "image agent", sizes["agent"], "GB"),
    ]


if __name__ == "__main__":
    run(measure, __doc__)
