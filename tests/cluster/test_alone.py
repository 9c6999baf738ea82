"""What changes the cluster itself: run by itself, after the others, and on the lab cluster alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from causes_seen import Causes
from cluster_access import TOP
from faulty_runs import HELD, Cluster, made, write
from kubernetes.client import ApiClient, CoreV1Api
from labcluster.client import api_ready
from tiny_runs import Lab, until

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.samples import plan
from runner.backends.kubernetes.translate import Transient
from runner.cluster import example

pytestmark = [pytest.mark.cluster, pytest.mark.alone]


# -- which node a GPU is taken from ------------------------------------------------------------


PRODUCT = "nvidia.com/gpu.product"
GPU = "nvidia.com/gpu"
A100, H100 = "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-NVL"
STAND = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture
def h100(api: ApiClient) -> Iterator[str]:
    """A node with two GPUs and the usual taint, as the scheduler sees it; nothing runs on it."""
    core, name = CoreV1Api(api), "only-for-the-scheduler"
    now = datetime.now(UTC).isoformat()
    core.create_node(
        {
            "metadata": {"name": name, "labels": {PRODUCT: H100}},
            "spec": {"taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}]},
        }
    )
    amounts = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "50", GPU: "2"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
    core.patch_node_status(name, {"status": status})

    def open_to_all() -> bool:
        taints = core.read_node(name).spec.taints or []
        return {taint.key for taint in taints} == {GPU}

    until(open_to_all, "the node is taken for ready", 30)
    yield name
    core.delete_node(name)


def placed(client: Client, number: int, **sandbox: Any) -> str:
    """The node that a run's pod was given, or why it has none."""
    classes = {
        "A100": {"values": [A100], "tolerations": [STAND]},
        "H100": {"values": ["NVIDIA-H100-80GB-HBM3", H100], "tolerations": [STAND]},
        "H100-bare": {"values": [H100], "tolerations": []},
    }
    cluster = example(
        gpuClasses=classes,
        pods={"serviceAccount": "default"},
        records={"s3": {"url": "s3://lab/runs", "secret": "runner-s3"}},  # a claim is of one node
        resources={"cpu": "100m", "memory": "256Mi", "disk": "1Gi", "agentCpu": "50m"},
    )
    made = manifests.job(plan(f"gpu-{number}", sandbox), cluster, 1, suspended=False)
    client.create("jobs", made)
    labels = f"batch.kubernetes.io/job-name={made['metadata']['name']}"

    def decided() -> str:
        for pod in client.list("pods", labels=labels):
            if node := pod["spec"].get("nodeName"):
                return str(node)
            for condition in pod.get("status", {}).get("conditions") or ():
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    return str(condition["message"])
        return ""

    try:
        return str(until(decided, f"run {number} is placed", 30))
    finally:
        client.patch("jobs", made["metadata"]["name"], {"spec": {"suspend": True}})
        client.delete_all("pods", labels=labels, grace_s=0)


def test_gpus_are_taken_in_the_order_in_which_they_are_named(
    api: ApiClient, namespace: str, cluster: Cluster, h100: str
) -> None:
    client, began = cluster.client, time.monotonic()
    assert placed(client, 1, gpu=["H100", "A100"]) == h100
    assert placed(client, 2, gpu=["A100", "H100"]) != h100
    assert placed(client, 3, gpu="H100", gpu_count=2) == h100
    # More than that node has: the second that is named will do.
    assert placed(client, 4, gpu=["H100", "A100"], gpu_count=3) not in ("", h100)
    said = placed(client, 5, gpu="H100-bare")
    assert "untolerated taint" in said
    assert time.monotonic() - began < 40, "the node would be taken for lost by now"


# -- the API server is started again ---------------------------------------------------------


def labcluster(*words: str) -> None:
    subprocess.run([sys.executable, TOP / "tests" / "labcluster", *words], check=True)


@contextmanager
def api_server_away() -> Iterator[None]:
    """It is stopped; it is back when the context ends, without those who hang on it."""
    labcluster("fail", "api")
    try:
        until(lambda: not api_ready(), "the API server is gone", 30)
        yield
    finally:
        labcluster("heal", "api")


def test_runs_and_their_followers_outlive_the_api_server(
    cluster: Cluster, causes: Causes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = cluster.line
    space = cluster.client.namespace
    lab = Lab(tmp_path / "alone", backend="kubernetes", kubernetes={"namespace": space})
    monkeypatch.setenv("KUBECONFIG", line.env["KUBECONFIG"])
    alone = lab.submit((), agent=False)
    with alone.session() as session, cluster.submitted(write(line, HELD)) as (submit, name):
        session.run("x = 7")
        submit.said("cell 1")
        with api_server_away():
            told = line("status", name)  # while it is away: words, no traceback
            assert told.status == 3, told
            assert "no cluster answers" in told.err
            causes.told("the API server is gone", told.status, told.err)
        assert session.run("x").text == "7"
        assert line("exec", name, "--", "touch", "go").status == 0
        told = submit.end()
    assert told.status == 0, told
    assert made(line.folder / "runs" / name) == {"kept.txt"}
    until(lambda: takes_jobs(cluster.client), "Kueue's webhook is back as well", 120)
    lab.backend.delete(alone.handle)
    assert line("delete", name, "--yes").status == 0
    cluster.gone(name)


def takes_jobs(client: Client) -> bool:
    try:
        client.create("jobs", manifests.job(plan("probe", {}), example(), 1), dry_run=True)
    except Transient:
        return False
    return True
