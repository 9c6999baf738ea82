"""Runs that wait in a queue of Kueue, which the chart makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cluster_access
import pytest
from causes_seen import Causes
from command_line import CommandLine
from faulty_runs import GPU, HELD, QUICK, Cluster, made, write
from tiny_runs import cell, held, until

from runner.pod.attempts import MOST_PODS

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


def test_one_waits_for_the_other_and_says_so(
    cluster: Cluster, elsewhere: CommandLine, causes: Causes
) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD, GPU)) as (first, one):
        first.said("cell 1")
        with cluster.submitted(write(line, QUICK, GPU)) as (second, two):
            second.said("in the queue runs, the next one")
            causes.seen(
                two, "queued in Kueue", shows="insufficient unused quota", says="unused quota"
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


def test_what_can_never_start_is_told(cluster: Cluster, causes: Causes) -> None:
    line = cluster.line
    toml = GPU.replace("[sandbox]", "[sandbox]\ngpu_count = 4")
    name = line("submit", write(line, QUICK, toml), "--detach", "--json").data["run_id"]
    causes.seen(
        name, "more than the queue may ever have", shows="maximum capacity", says="never start"
    )
    assert line("cancel", name).status == 0
    cluster.gone(name)


def test_a_queue_that_is_stopped(cluster: Cluster, causes: Causes, namespace: str) -> None:
    def stop(policy: str) -> None:
        cluster.client.patch("clusterqueues", namespace, {"spec": {"stopPolicy": policy}})

    line = cluster.line
    stop("Hold")
    try:
        with cluster.submitted(write(line, QUICK, GPU)) as (run, name):
            causes.seen(name, "the queue is stopped", shows="inactive", says="inactive")
            stop("None")
            assert run.end().status == 0
    finally:
        stop("None")
    assert line("delete", name, "--yes").status == 0


@contextmanager
def priorities(cluster: Cluster, **values: int) -> Iterator[None]:
    """Kueue's classes of priority; they are of the whole cluster."""
    kind = "workloadpriorityclasses"
    for name, value in values.items():
        body = {
            "apiVersion": "kueue.x-k8s.io/v1beta1",
            "kind": "WorkloadPriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        cluster.client.create(kind, body)
    try:
        yield
    finally:
        for name in values:
            cluster.client.delete(kind, name)


def test_a_higher_priority_goes_first(cluster: Cluster, namespace: str) -> None:
    """Both wait for the GPU; the one that came later has the higher class."""
    line = cluster.line
    low, high = f"{namespace}-low", f"{namespace}-high"
    with (
        priorities(cluster, **{low: 10, high: 1000}),
        cluster.submitted(write(line, HELD, GPU)) as (first, one),
    ):
        first.said("cell 1")
        named = [
            line("submit", write(line, QUICK, f'{GPU}priority = "{name}"\n'), "--detach", "--json")
            for name in (low, high)
        ]
        two, three = (told.data["run_id"] for told in named)
        until(lambda: "1 before it" in reason(line, two), "the later one is before it", 60)
        assert "the next one" in reason(line, three)
        assert line("exec", one, "--", "touch", "go").status == 0
        for name in (three, two):
            assert line("wait", name).status == 0
        jobs = {
            job["metadata"]["labels"]["runner/run"]: job["status"]["startTime"]
            for job in cluster.client.list("jobs")
        }
        assert jobs[three] < jobs[two]
        assert first.end().status == 0
    for name in (one, two, three):
        assert line("delete", name, "--yes").status == 0


def test_one_that_kueue_preempts_waits_and_goes_on(
    cluster: Cluster, causes: Causes, namespace: str
) -> None:
    allowed = {"spec": {"preemption": {"withinClusterQueue": "LowerPriority"}}}
    cluster.client.patch("clusterqueues", namespace, allowed)
    line = cluster.line
    low, high = f"{namespace}-low", f"{namespace}-high"
    with (
        priorities(cluster, **{low: 10, high: 1000}),
        cluster.submitted(write(line, HELD, f'{GPU}priority = "{low}"\n')) as (first, one),
    ):
        first.said("cell 1")
        later = write(line, HELD, f'{GPU}priority = "{high}"\n')
        with cluster.submitted(later) as (second, two):
            second.said("cell 1")
            causes.seen(
                one,
                "preempted by Kueue",
                shows="Preempted to accommodate",
                says="taken off its node",
            )
            assert line("exec", two, "--", "touch", "go").status == 0
            assert second.end().status == 0
        first.said("this one goes on")
        told = first.end()
    assert told.status == 0, told
    assert made(line.folder / "runs" / one) == {"kept.txt"}
    for name in (one, two):
        assert line("delete", name, "--yes").status == 0


@pytest.mark.timeout(600)
def test_the_tenth_pod_is_the_last(cluster: Cluster) -> None:
    """An admin stops its Workload again and again, which takes its pod away each time."""
    line = cluster.line
    with cluster.submitted(write(line, [cell(held())] * (MOST_PODS + 1), GPU)) as (run, name):
        for number in range(1, MOST_PODS + 1):
            run.said(rf"^[\d:]+  cell {number}$")
            for active in (False, True):
                admitted(cluster, name, active=active)
        told = run.end()
    assert told.status == 3, told
    assert f"{MOST_PODS} pods of it are gone" in told.out
    assert "`runner resume` goes on from the record" in told.out
    assert line("status", name, "--json").data["attempts"] == MOST_PODS
    assert line("verify", name).status == 0
    assert line("delete", name, "--yes").status == 0


def admitted(cluster: Cluster, name: str, *, active: bool) -> None:
    """Have Kueue take a run's pod away, or let it have another one."""
    [workload] = [
        item
        for item in cluster.client.list("workloads")
        if item["metadata"]["ownerReferences"][0]["name"].startswith(name)
    ]
    patch = {"spec": {"active": active}}
    cluster.client.patch("workloads", workload["metadata"]["name"], patch)
    cluster.until(name, lambda now: now.job and now.job.suspended != active, "is let go or held")
    if not active:
        cluster.until(name, lambda now: now.pod is None, "its pod is gone")
