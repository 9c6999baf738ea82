"""A run that holds a GPU without using it ends by itself, and frees it; nothing it made is lost.

The node advertises GPUs that are none, so there is no nvidia-smi: what runs counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cluster_lab import ClusterLab
from faulty_runs import GPU
from messages_api import messages_api
from tiny_runs import DEADLINE_S, cell, end, until

from runner.backends.kubernetes.client import connect
from runner.sandbox.meter import ACTIVITY

pytestmark = pytest.mark.cluster

KEPT = "open('outputs/kept.txt', 'w').write('k')"
EVENTS = 7
"""Of a reply with one call, each of which takes `delay_s`."""


@pytest.fixture
def lab(chart: str, namespace: str, tmp_path: Path) -> Iterator[ClusterLab]:
    assert chart
    made = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield made
    made.close()


def test_a_run_whose_model_thinks_for_long_is_told_and_wound_up(lab: ClusterLab) -> None:
    warned, over = threading.Event(), threading.Event()

    def thinks() -> Iterator[dict[str, Any]]:
        yield {"tools": [{"name": "run_cell", "input": {"source": KEPT}}]}
        warned.wait(DEADLINE_S)
        # The agent looks every two seconds.
        yield {"tools": [{"name": "read_notebook", "input": {}}], "delay_s": 8 / EVENTS}
        over.wait(DEADLINE_S)
        yield {"text": "Too late."}

    with messages_api(thinks(), address=lab.address) as server, lab.secrets(MODEL_KEY="k-12345"):
        toml = f'{GPU}gpu_idle_timeout = 80\n[agent]\nllm_secret = "MODEL_KEY"\n'
        run = lab.submit((), f'{toml}base_url = "{server.url}"\n')
        with run.session() as session:
            until(lambda: session.info()["warnings"], "the sandbox warns")
        warned.set()
        status = run.over()
        over.set()
    assert (status.state, status.exit_status, status.run.bound) == ("bound", 4, "gpu_idle")
    assert "no cell or command ran, and nvidia-smi does not tell" in status.reason
    assert "[warning] the GPU was not used for" in run.results()[1], "with whatever comes next"
    assert (run.path / "outputs" / "kept.txt").read_text() == "k"
    found = status.run.gpus
    assert (found["count"], found["source"]) == (1, ACTIVITY)
    assert 0 <= found["used_s"] < 40 < found["held_s"]
    [attempt] = run.lines("attempt")
    begun, written = (datetime.fromisoformat(attempt[key]) for key in ("since", "time"))
    assert begun < written, "the pod had its GPU before the agent could say so"


def test_a_cell_that_runs_is_use(lab: ClusterLab) -> None:
    long = cell("import time; time.sleep(8); print('through')")
    run = lab.submit([long, end("through")], f"{GPU}gpu_idle_timeout = 4\n")
    status = run.over()
    assert status.state == "done", status.reason
    assert status.run.gpus["used_s"] > 6
