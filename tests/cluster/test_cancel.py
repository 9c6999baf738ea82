"""`cancel` and `delete` at every stage of a run, and a pod that is taken away: what was made stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import this_machine
import yaml
from cluster_lab import trusted
from command_line import CommandLine
from faulty_runs import GPU, HELD, QUICK, Cluster, made, write
from git_server import git_server
from kubernetes.client import ApiClient
from tiny_runs import cell, end, held

from runner.backends.kubernetes.snapshot import Snapshot

pytestmark = pytest.mark.cluster

SLOW_SCORE = "import time; time.sleep(600)"


def cancelled(cluster: Cluster, run_id: str) -> dict[str, Any]:
    """`cancel` ends it at once, frees what it held, and says so; its status as JSON."""
    told = cluster.line("cancel", run_id)
    assert told.status == 0, told
    assert "is cancelled" in told.out
    snap = cluster.snapshot(run_id)
    assert snap.pod is None or snap.pod.over
    status = cluster.line("status", run_id, "--json").data
    assert (status["state"], status["exit_status"]) == ("cancelled", 130)
    return status


def removed(cluster: Cluster, run_id: str) -> None:
    """Nothing of it is left; to delete it once more says that there is no such run."""
    assert cluster.line("delete", run_id, "--yes").status == 0
    cluster.gone(run_id)
    again = cluster.line("delete", run_id, "--yes")
    assert again.status == 2, again
    assert run_id in again.err


def begun(container: str) -> Any:
    def true(snap: Snapshot) -> bool:
        found = snap.pod.container(container) if snap.pod else None
        return found is not None and found.state == "running"

    return true


@contextmanager
def holder(cluster: Cluster, images: Path) -> Iterator[None]:
    """One GPU is taken, so that no run has all of them."""
    image = yaml.safe_load(images.read_text())["images"]["agent"]
    spec = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": image,
                "command": ["tini", "--", "sleep", "600"],
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    cluster.client.create("pods", {"metadata": {"name": "holder"}, "spec": spec})
    try:
        yield
    finally:
        cluster.client.delete("pods", "holder", grace_s=0)


def test_cancel_while_it_waits_for_a_gpu(
    cluster: Cluster, elsewhere: CommandLine, images: Path
) -> None:
    toml = GPU.replace("[sandbox]", "[sandbox]\ngpu_count = 8")
    with (
        holder(cluster, images),
        cluster.submitted(write(cluster.line, QUICK, toml)) as (run, name),
    ):
        run.said("Insufficient nvidia.com/gpu")
        status = elsewhere("status", name, "--json").data
        assert "Insufficient nvidia.com/gpu" in status["reason"]
        cancelled(cluster, name)
        assert run.end().status == 130
    # A Job that never ran would never end by itself either.
    cluster.gone(name)
    assert elsewhere("status", name, "--json").data["state"] == "cancelled"
    assert elsewhere("verify", name).status == 0
    removed(cluster, name)


def test_cancel_while_it_clones(cluster: Cluster, tmp_path: Path) -> None:
    with (
        git_server(tmp_path / "git", address=this_machine.address()) as server,
        trusted(cluster.client, server.ca),
    ):
        server.add_repo("lib", {"lib.py": ""})
        line = cluster.line.but(GIT_SSL_CAINFO=str(server.ca))
        server.stall_after = 1  # what `submit` asks is answered
        file = write(line, QUICK, f'[sandbox]\nrepos = ["{server.url("lib")}"]\n')
        detached = line("submit", file, "--detach", "--json")
        assert detached.status == 0, detached
        name = detached.data["run_id"]
        cluster.until(name, begun("clone"), "it clones")
        cancelled(cluster, name)
    removed(cluster, name)


def test_cancel_while_the_agent_starts(cluster: Cluster) -> None:
    name = cluster.line("submit", write(cluster.line, HELD), "--detach", "--json").data["run_id"]
    cluster.until(name, begun("agent"), "its agent has begun")
    cancelled(cluster, name)
    removed(cluster, name)


def test_cancel_while_a_cell_runs(cluster: Cluster, elsewhere: CommandLine) -> None:
    with cluster.submitted(write(cluster.line, HELD)) as (run, name):
        run.said("cell 1")
        status = cancelled(cluster, name)
        assert status["reason"] == "cancelled by the user"
        assert run.end().status == 130
    assert made(cluster.line.folder / "runs" / name) == {"kept.txt"}
    assert elsewhere("fetch", name, "--to", "copy").status == 0
    assert made(elsewhere.folder / "copy") == {"kept.txt"}
    again = cluster.line("cancel", name)
    assert again.status == 0
    assert "already" in again.out
    removed(cluster, name)


def test_cancel_while_it_ends(cluster: Cluster) -> None:
    (cluster.line.folder / "score.py").write_text(SLOW_SCORE)
    file = write(cluster.line, QUICK)
    path = cluster.line.folder / file
    path.write_text(path.read_text().replace("task =", 'score = "score.py"\ntask =', 1))
    with cluster.submitted(file) as (run, name):
        run.said("ending")
        told = cluster.line("cancel", name)
        assert told.status == 0, told
        run.end()
    assert made(cluster.line.folder / "runs" / name) == {"a.txt"}
    assert cluster.line("status", name, "--json").data["state"] in ("done", "cancelled")
    removed(cluster, name)


def test_a_run_that_was_cancelled_is_resumed(cluster: Cluster) -> None:
    line = cluster.line
    with cluster.submitted(write(line, HELD)) as (run, name):
        run.said("cell 1")
        cancelled(cluster, name)
    resumed = line("resume", name)
    assert resumed.status == 0, resumed
    assert made(line.folder / "runs" / name) == {"kept.txt"}
    assert line("verify", name).status == 0
    removed(cluster, name)


def test_delete_of_what_others_removed(cluster: Cluster) -> None:
    line = cluster.line
    done = line("submit", write(line, QUICK), "--json")
    assert done.status == 0, done
    name = done.data["run_id"]
    cluster.client.delete("jobs", f"{name}-1")
    cluster.gone(name)
    assert line("delete", name, "--yes").status == 0
    assert not (line.folder / "runs" / name).exists()
    removed = line("status", name)
    assert removed.status == 2


# -- a pod that is taken away --------------------------------------------------------------


FIRST = "open('outputs/first.txt', 'w').write('f')"
EVICTED = [cell(FIRST), cell(held("open('outputs/kept.txt', 'w').write('k')")), end()]


def evict(api: ApiClient, cluster: Cluster, run_id: str) -> str:
    """As `kubectl drain` does; the name of the pod."""
    from kubernetes.client import CoreV1Api

    pod = cluster.snapshot(run_id).pod
    assert pod is not None
    CoreV1Api(api).create_namespaced_pod_eviction(
        pod.name, cluster.client.namespace, {"metadata": {"name": pod.name}}
    )
    return pod.name


def test_an_evicted_run_goes_on_in_another_pod(api: ApiClient, cluster: Cluster) -> None:
    line = cluster.line
    with cluster.submitted(write(line, EVICTED)) as (run, name):
        run.said("cell 2")
        gone = evict(api, cluster, name)
        run.said(f"pod {gone} is gone; this one goes on")
        told = run.end()
    assert told.status == 0, told
    assert made(line.folder / "runs" / name) >= {"first.txt"}
    assert line("verify", name).status == 0
    status = line("status", name, "--json").data
    assert status["attempts"] == 2
    removed(cluster, name)


def test_an_evicted_run_fails_where_it_was_to(api: ApiClient, cluster: Cluster) -> None:
    line = cluster.line
    toml = '[sandbox]\non_disruption = "fail"\n'
    with cluster.submitted(write(line, EVICTED, toml)) as (run, name):
        run.said("cell 2")
        evict(api, cluster, name)
        told = run.end()
    assert told.status == 3, told
    assert made(line.folder / "runs" / name) >= {"first.txt"}
    removed(cluster, name)
