"""Models on a cluster whose names the agent looks for, and does not find."""

from __future__ import annotations

from pathlib import Path

import cluster_access
import hidden_models
import pytest
import this_machine
from cluster_lab import ClusterLab
from hub_server import hub_server, used_here
from tiny_runs import cell, end

from runner.backends.kubernetes.client import connect

pytestmark = pytest.mark.cluster

LINKS = """
import os
print({file: os.stat(f"{top}/{file}").st_nlink for top in ["/cache/hidden/" + os.listdir(
    "/cache/hidden")[0] + "/1"] for file in os.listdir(top)})
"""


@pytest.mark.parametrize("cache", [True, False])
def test_an_agent_that_looks_for_the_name(namespace: str, tmp_path: Path, cache: bool) -> None:
    with (
        hub_server(tmp_path / "hub", address=this_machine.address()) as hub,
        used_here(hub),
    ):
        given = {"pods": {"env": {"HF_ENDPOINT": hub.url}}, "cache": {"enabled": cache}}
        cluster_access.install_chart(namespace, cluster_access.images(), tmp_path, given)
        lab = ClusterLab(tmp_path, namespace, connect(None, namespace))
        hub.add(hidden_models.VISIBLE, {"config.json": b"{}"})
        commits = [
            hub.add(hidden_models.NAME, hidden_models.FILES),
            hub.add(hidden_models.ADAPTER, hidden_models.ADAPTER_FILES),
        ]
        with lab.trusting(hub.ca):
            steps = hidden_models.steps(*commits)
            run = lab.submit(steps, hidden_models.TOML, hidden_models.STUBS)
            status = run.over(240)
            assert status.state == "done", (status.reason, run.log())
            hidden_models.check(run, commits)
            again = lab.submit([cell(LINKS), end()], hidden_models.TOML, hidden_models.STUBS)
            status = again.over(240)
            assert status.state == "done", (status.reason, again.log())
        links = 3 if cache else 2  # the cache's own, and one for each run
        assert f"'model.safetensors': {links}" in again.results()[0]
        lab.close()
