"""Runs that wait in a queue of Kueue, which the chart makes."""

from __future__ import annotations

from pathlib import Path

import cluster_access
import pytest
from command_line import CommandLine
from faulty_runs import GPU, HELD, QUICK, Cluster, made, write
from tiny_runs import until

pytestmark = pytest.mark.cluster

ONE_GPU = {"cpu": 8, "memory": "64Gi", "ephemeral-storage": "1Ti", "nvidia.com/gpu": 1}


@pytest.fixture(scope="module")
def chart(namespace: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a queue of its own, which has one GPU."""
    values = {
        "queue": {"name": "runs"},
        "kueue": {
            "clusterQueue": namespace,
            "flavors": [{"name": namespace, "quota": ONE_GPU}],
        },
    }
    return cluster_access.install_chart(namespace, images, tmp_path_factory.mktemp("chart"), values)


def reason(line: CommandLine, name: str) -> str:
    return str(line("status", name, "--json").data["reason"])


def test_one_waits_for_the_other_and_says_so(cluster: Cluster, elsewhere: CommandLine) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD, GPU)) as (first, one):
        first.said("cell 1")
        with cluster.submitted(write(line, QUICK, GPU)) as (second, two):
            second.said("in the queue runs, the next one")
            until(
                lambda: "insufficient unused quota" in reason(elsewhere, two),
                "Kueue's own words",
                60,
            )
            refused = elsewhere("resume", two)
            assert refused.status == 2
            assert "goes on already" in refused.err
            assert elsewhere("exec", one, "--", "touch", "go").status == 0
            assert first.end().status == 0
            assert second.end().status == 0
    for name, file in ((one, "kept.txt"), (two, "a.txt")):
        assert made(line.folder / "runs" / name) == {file}
        assert line("delete", name, "--yes").status == 0


def test_cancel_in_the_queue_is_for_good(cluster: Cluster, elsewhere: CommandLine) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD, GPU)) as (first, one):
        first.said("cell 1")
        two = line("submit", write(line, QUICK, GPU), "--detach", "--json").data["run_id"]
        until(lambda: "in the queue" in reason(line, two), "it waits", 60)
        told = elsewhere("cancel", two)
        assert told.status == 0, told
        assert "is cancelled" in told.out
        cluster.gone(two)  # what Kueue could let go later
        assert elsewhere("status", two, "--json").data["state"] == "cancelled"
        # A quick one that holds its GPU is taken off it, and is not let go once more.
        assert line("cancel", one).status == 0
        assert first.end().status == 130
    workloads = cluster.client.list("workloads")
    assert not [item for item in workloads if item["metadata"]["name"].startswith(f"job-{two}")]
    resumed = line("resume", two)
    assert resumed.status == 0, resumed
    assert made(line.folder / "runs" / two) == {"a.txt"}


def test_what_can_never_start_is_told(cluster: Cluster) -> None:
    line = cluster.line
    toml = GPU.replace("[sandbox]", "[sandbox]\ngpu_count = 4")
    name = line("submit", write(line, QUICK, toml), "--detach", "--json").data["run_id"]
    until(lambda: "can never start as it is" in reason(line, name), "it is told", 60)
    assert line("cancel", name).status == 0
    cluster.gone(name)
