"""Many runs from one submit, which wait in a queue for a few GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable

import cluster_access
import pytest
from command_line import CommandLine
from faulty_runs import GPU, HELD, Cluster, made, write
from tiny_runs import cell, end, until

from runner.backends.kubernetes.kueue import QUEUE_LABEL

pytestmark = pytest.mark.cluster

RUNS = 20
GPUS = {"cpu": 32, "memory": "256Gi", "ephemeral-storage": "2Ti", "nvidia.com/gpu": 4}
STEPS = [cell("import os; open('outputs/a.txt', 'w').write(os.environ['SEED'])"), end()]


@pytest.fixture(scope="module")
def chart(namespace: str, images: object, tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a queue of its own, which has a few GPUs."""
    values = {
        "queue": {"name": "runs"},
        "kueue": {"clusterQueue": namespace, "flavors": [{"name": namespace, "quota": GPUS}]},
    }
    top = tmp_path_factory.mktemp("chart")
    return cluster_access.install_chart(namespace, cluster_access.images(), top, values)


def seeds(count: int) -> list[str]:
    return [f"--set=sandbox.env.SEED={number}" for number in range(1, count + 1)]


@pytest.mark.timeout(600)
def test_twenty_runs_share_four_gpus(cluster: Cluster, elsewhere: CommandLine) -> None:
    line = cluster.line
    with line.starting("submit", write(line, STEPS, GPU), *seeds(RUNS)) as submit:
        sweep = submit.said(r"^sweep (\S+): 20 runs$")[1]
        submit.said(r"\bcreated\b")  # all are begun, and some wait
        told = elsewhere("list", "--sweep", sweep, "--json")
        assert told.status == 0, told.words
        assert len(told.out.splitlines()) == RUNS
        told = elsewhere("list", "--sweep", sweep)
        assert f"{sweep}  20 runs: " in told.out
        assert "sandbox.env.SEED=7" in told.out
        told = elsewhere("status", f"{sweep}-20")
        assert f"{sweep}, 20 of 20: sandbox.env.SEED=20" in told.out, told
        jobs = cluster.client.list("jobs", labels=f"runner/sweep={sweep}")
        assert len(jobs) == RUNS
        told = submit.end(500)
    assert told.status == 0, told.words
    assert f"{sweep}: 20 done; " in told.out
    for number in range(1, RUNS + 1):
        path = line.folder / "runs" / f"{sweep}-{number:02}"
        assert made(path) == {"a.txt"}
        assert (path / "outputs" / "a.txt").read_text() == str(number)
        assert (path / "notebook.ipynb").stat().st_size
    told = line("verify", f"{sweep}-07")
    assert told.status == 0, told.words


@pytest.mark.timeout(600)
def test_a_start_that_was_cut_off_goes_on(cluster: Cluster, elsewhere: CommandLine) -> None:
    line = cluster.line
    file = write(line, HELD, GPU)
    with line.starting("submit", file, *seeds(6)) as submit:
        sweep = submit.said(r"^sweep (\S+): 6 runs$")[1]
        submit.said(rf"^run {sweep}-")
        submit.kill()
    let_go = {run for run, queue in sweep_jobs(cluster, sweep) if queue}
    told = line("submit", file, *seeds(6), "--sweep", sweep, "--detach")
    if len(let_go) < 6:
        assert told.status == 0, told.words
        assert len(re.findall(rf"^run {sweep}-", told.out, re.MULTILINE)) == 6 - len(let_go)
        assert not [name for name in let_go if f"run {name} " in told.out]
    until(lambda: len(sweep_jobs(cluster, sweep)) == 6, "each run has one Job", 60)
    assert len({run for run, queue in sweep_jobs(cluster, sweep) if queue}) == 6
    told = line("submit", file, *seeds(6), "--sweep", sweep)
    assert told.status == 2
    assert "is whole" in told.err
    refused = elsewhere("delete", sweep, "--yes")
    assert refused.status == 2
    assert "of the 6 runs" in refused.err
    runs = [f"{sweep}-{number}" for number in range(1, 7)]
    until(lambda: [state(line, run) for run in runs].count("running") == 4, "four run", 120)
    told = elsewhere("cancel", sweep)
    assert told.status == 0, told.words
    waited = elsewhere("wait", sweep)
    assert waited.status == 130, waited.words
    told = elsewhere("delete", sweep, "--yes", "--force")
    assert told.status == 0, told.words
    until(lambda: not sweep_jobs(cluster, sweep), "nothing is left", 60)


def test_a_quota_ends_the_start_and_the_rest_is_started_later(
    cluster: Cluster, apply: Callable[..., object]
) -> None:
    line = cluster.line
    file = write(line, STEPS, GPU)
    most = len(cluster.client.list("jobs")) + 2
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few-jobs"},
        "spec": {"hard": {"count/jobs.batch": str(most)}},
    }
    apply(quota)
    until(lambda: counted(cluster), "the quota counts", 60)
    told = line("submit", file, *seeds(4))
    assert told.status == 3, told
    assert "exceeded quota: few-jobs" in told.words
    assert "2 of 4 runs were started and go on; the others left nothing" in told.words
    rest = re.search(r"^  runner (submit .* --sweep (\S+))  starts the others$", told.err, re.M)
    assert rest, told
    assert len(list((line.folder / "runs").iterdir())) == 2
    cluster.client.delete("resourcequotas", "few-jobs")
    told = line(*rest[1].split())
    assert told.status == 0, told.words
    assert f"{rest[2]}: 4 done; " in told.out
    assert len(list((line.folder / "runs").glob(f"{rest[2]}-*/outputs/a.txt"))) == 4


def counted(cluster: Cluster) -> bool:
    [quota] = cluster.client.list("resourcequotas", fields="metadata.name=few-jobs")
    return bool(quota.get("status", {}).get("used"))


def state(line: CommandLine, run: str) -> str:
    return str(line("status", run, "--json").data["state"])


def sweep_jobs(cluster: Cluster, sweep: str) -> list[tuple[str, str | None]]:
    """The run of each Job, and the queue that it was let go to."""
    found = cluster.client.list("jobs", labels=f"runner/sweep={sweep}")
    labels = [job["metadata"]["labels"] for job in found]
    return [(each["runner/run"], each.get(QUEUE_LABEL)) for each in labels]
