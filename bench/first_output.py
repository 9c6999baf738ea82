"""From typing `submit` to the first cell's output on `local`, beside doing it by hand.

`python bench/first_output.py [--quick] [--json]`; README.md says how to read it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("", "tests")]

import nbformat
from figures import Figure, Target, in_turn, run
from tiny_runs import Lab, cell, end, until

SAID = "output of the first cell"
BY_HAND = "venv, pip install, jupyter execute by hand"


def submitted(lab: Lab, caches: Mapping[str, str] = os.environ) -> float:
    """Seconds from starting `runner submit` to the first cell's output on its stdout."""
    file = lab.write([cell(f"print({SAID!r})"), end()])
    given = lab.settings
    env = {
        **os.environ,
        **caches,
        "RUNNER_BACKEND": given.backend,
        "RUNNER_STATE_DIR": str(given.state_dir),
        "RUNNER_DOCKER__IMAGES": json.dumps(given.docker.images),
        **({"RUNNER_DOCKER__AGENT": given.docker.agent} if given.docker.agent else {}),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "runner", "submit", str(file), "--runs", given.runs]
    begun = time.monotonic()
    took = 0.0
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=-3, text=True) as ran:
        run_id = ""
        for line in ran.stdout or io.StringIO():
            run_id = line.split()[1] if line.startswith("run ") else run_id
            if "| " in line and SAID in line and "print" not in line:
                took = took or time.monotonic() - begun
    assert took and not ran.returncode
    handle = lab.backend.attach(run_id)
    until(lambda: not lab.backend.status(handle).sandbox_alive, "it is over")
    lab.backend.delete(handle)
    lab.backend.delete_record(handle)
    return took


def by_hand(top: Path, caches: Mapping[str, str] = os.environ) -> float:
    """Seconds of what somebody types instead."""
    folder = top / "by-hand"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    code = nbformat.v4.new_code_cell(f"print({SAID!r})")
    nbformat.write(nbformat.v4.new_notebook(cells=[code]), folder / "x.ipynb")
    env = {**os.environ, **caches}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.monotonic()
    for words in (
        [sys.executable, "-m", "venv", "venv"],
        ["venv/bin/pip", "install", "--quiet", "nbclient", "ipykernel"],
        ["venv/bin/jupyter-execute", "--inplace", "x.ipynb"],
    ):
        subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True)
    took = time.monotonic() - begun
    assert SAID in (folder / "x.ipynb").read_text().partition('"source"')[0]
    return took


def fresh(top: Path) -> Callable[[], dict[str, str]]:
    """Caches of uv and pip with nothing in them, others each time."""
    made = 0

    def caches() -> dict[str, str]:
        nonlocal made
        made += 1
        return {f"{name}_CACHE_DIR": str(top / f"{name}-{made}") for name in ("UV", "PIP")}

    return caches


def measure(top: Path, quick: bool) -> list[Figure]:
    """With the caches as they are, and with none, each beside the way by hand."""
    lab, empty = Lab(top / "local", backend="local"), fresh(top)
    warm = {"ours": lambda: submitted(lab), BY_HAND: lambda: by_hand(top)}
    cold = {"ours": lambda: submitted(lab, empty()), BY_HAND: lambda: by_hand(top, empty())}
    found = []
    parts = (
        ("warm caches", warm, 3, 1, Target("figure", most=3.0)),
        ("empty caches", cold, 1, 0, None),
    )
    for words, ways, rounds, before, target in parts[:1] if quick else parts:
        taken = in_turn(ways, 1 if quick else rounds, warm=0 if quick else before)
        middle = {name: statistics.median(times) for name, times in taken.items()}
        found.append(
            Figure("submit to the first cell's output", words, middle["ours"], "s", BY_HAND,
                   middle[BY_HAND], target)
        )  # fmt: skip
    lab.close()
    return found


if __name__ == "__main__":
    run(measure, __doc__)
