"""A node that is full, closed, drained or lost, and pods that are preempted: on a second node.

Its GPUs are of another kind, so that only these runs are placed there.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cluster_access
import pytest
from causes_seen import Causes
from cluster_access import TOP
from cluster_lab import ClusterLab
from faulty_runs import Cluster, made, write
from kubernetes.client import ApiClient, CoreV1Api
from tiny_runs import cell, end, held, until

from runner import submission
from runner.backends.kubernetes.client import connect
from runner.plan import RunPlan
from runner.record import read_lines

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

NODE, PRODUCT, GPUS = "lab2", "NVIDIA-H100-NVL", 2
GPU = '[sandbox]\ngpu = ["H100"]\n'
EITHER = '[sandbox]\ngpu = ["H100", "A100"]\n'
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
KEPT = [
    cell("x = 1; open('outputs/first.txt', 'w').write('f')"),
    cell(held("open('outputs/kept.txt', 'w').write('k')")),
    cell("print(x)"),
    end(),
]
"""Its first variable is gone in another pod, its files are not."""


def labcluster(*words: str) -> None:
    subprocess.run([sys.executable, TOP / "tests" / "labcluster", *words], check=True)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The second node, for these tests alone."""
    labcluster("join")
    try:
        labcluster("gpu", str(GPUS), PRODUCT, "--node", NODE)
        yield NODE
    finally:
        labcluster("leave")


@pytest.fixture(scope="module")
def chart(node: str, namespace: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pods leave a node that is silent after some seconds, not after five minutes."""
    assert node
    lost = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    soon = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
        for key in lost
    ]
    top = tmp_path_factory.mktemp("chart")
    return cluster_access.install_chart(namespace, images, top, {"pods": {"tolerations": soon}})


@pytest.fixture
def lab(chart: str, namespace: str, tmp_path: Path) -> Iterator[ClusterLab]:
    assert chart
    made = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield made
    made.close()


def on_the_node(cluster: Cluster, run_id: str) -> str:
    """The run's pod, which runs there."""
    pod = cluster.snapshot(run_id).pod
    assert pod is not None
    assert pod.node == NODE
    return pod.name


def removed(cluster: Cluster, *names: str) -> None:
    for name in names:
        assert cluster.line("delete", name, "--yes").status == 0
        cluster.gone(name)


@contextmanager
def taint(api: ApiClient, **taint: str) -> Iterator[None]:
    """Besides those that the node has."""
    core = CoreV1Api(api)

    def those() -> list[dict[str, Any]]:
        return [item.to_dict() for item in core.read_node(NODE).spec.taints or []]

    core.patch_node(NODE, {"spec": {"taints": [*those(), taint]}})
    try:
        yield
    finally:
        left = [item for item in those() if item["key"] != taint["key"]]
        core.patch_node(NODE, {"spec": {"taints": left}})


# -- a node that does not take it ----------------------------------------------------------


def test_all_gpus_are_in_use(cluster: Cluster, causes: Causes) -> None:
    line = cluster.line
    both = GPU + f"gpu_count = {GPUS}\n"
    with cluster.submitted(write(line, KEPT, both)) as (first, one):
        first.said("cell 2")
        with cluster.submitted(write(line, [end()], GPU)) as (second, two):
            causes.seen(two, "all GPUs are in use", shows="Insufficient", says="in use")
            second.said("all in use")
            second.said("it starts by itself when a run ends")
            assert line("exec", one, "--", "touch", "go").status == 0
            assert first.end().status == 0
            assert second.end().status == 0
    removed(cluster, one, two)


def test_a_taint_that_the_run_does_not_stand(
    api: ApiClient, cluster: Cluster, causes: Causes
) -> None:
    line = cluster.line
    with taint(api, key="team", value="vision", effect="NoSchedule"):
        told = line("submit", write(line, [end()], GPU), "--detach", "--json")
        assert told.status == 2, "it is refused where nodes may be read"
        assert "team=vision:NoSchedule" in told.err
    with cluster.submitted(write(line, KEPT, GPU)) as (run, name):
        run.said("cell 2")
        with taint(api, key="team", value="vision", effect="NoSchedule"):
            evict(api, cluster, name)
            causes.seen(
                name, "a taint keeps it out", shows="untolerated", says="the taint team=vision"
            )
        assert run.end().status == 0
    removed(cluster, name)


def evict(api: ApiClient, cluster: Cluster, run_id: str) -> str:
    """As `kubectl drain` does; the name of the pod."""
    pod = on_the_node(cluster, run_id)
    body = {"metadata": {"name": pod}}
    CoreV1Api(api).create_namespaced_pod_eviction(pod, cluster.client.namespace, body)
    return pod


class Registry(BaseHTTPRequestHandler):
    """One that answers nobody until it may, and then lets nobody in."""

    may_answer: threading.Event

    def do_GET(self) -> None:
        self.may_answer.wait(60)
        with contextlib.suppress(OSError):  # whoever asked may be gone
            self.send_response(401)
            realm = f'Bearer realm="http://{self.headers["Host"]}/token"'
            self.send_header("WWW-Authenticate", realm)
            self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, *_: object) -> None:
        pass


def test_a_registry_that_is_slow_and_lets_nobody_in(lab: ClusterLab, causes: Causes) -> None:
    handler = type("Here", (Registry,), {"may_answer": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        prepared = lab.prepare([end()])
        images = prepared.plan.images
        assert images is not None
        image = f"localhost:{server.server_port}/runner/base@sha256:{'0' * 64}"
        update = {"images": images.model_copy(update={"sandbox": image, "agent": image})}
        plan = RunPlan.model_validate(prepared.plan.model_copy(update=update).model_dump())
        run = lab.start(submission.Submission(plan, prepared.secrets, prepared.blobs))
        causes.seen(run.run_id, "an image is pulled", shows="Pulling", says="pulling the image")
        handler.may_answer.set()
        causes.seen(run.run_id, "the registry refuses the image", shows="ErrImagePull", says="401")
        server.shutdown()


# -- a pod that is taken away --------------------------------------------------------------


def test_a_drained_node(api: ApiClient, cluster: Cluster, causes: Causes) -> None:
    line = cluster.line
    with cluster.submitted(write(line, KEPT, GPU)) as (run, name):
        run.said("cell 2")
        gone = on_the_node(cluster, name)
        CoreV1Api(api).patch_node(NODE, {"spec": {"unschedulable": True}})
        try:
            evict(api, cluster, name)
            causes.seen(
                name,
                "drained, and every node for it is cordoned",
                shows="were unschedulable",
                says="cordoned",
            )
        finally:
            CoreV1Api(api).patch_node(NODE, {"spec": {"unschedulable": None}})
        run.said(f"pod {gone} is gone; this one goes on")
        told = run.end()
    assert told.status == 0, told
    record = line.folder / "runs" / name
    assert made(record) == {"first.txt", "kept.txt"}
    assert told_of_the_loss(record)
    assert line("status", name, "--json").data["attempts"] == 2
    assert line("verify", name).status == 0
    removed(cluster, name)


def told_of_the_loss(record: Path) -> bool:
    """Whether the agent was told that another sandbox answers."""
    lines = [line for line, _ in read_lines(record / "transcript.jsonl")]
    return any(str(line.get("notice", "")).startswith("sandbox ") for line in lines)


@contextmanager
def priorities(api: ApiClient, **values: int) -> Iterator[None]:
    from kubernetes.client import SchedulingV1Api

    scheduling = SchedulingV1Api(api)
    for name, value in values.items():
        scheduling.create_priority_class({"metadata": {"name": name}, "value": value})
    try:
        yield
    finally:
        for name in values:
            scheduling.delete_priority_class(name)


def test_a_run_of_a_higher_priority_takes_its_place(
    api: ApiClient, cluster: Cluster, causes: Causes
) -> None:
    line = cluster.line
    both = GPU + f"gpu_count = {GPUS}\n"
    with priorities(api, **{"tests-low": 10, "tests-high": 1000}):
        low = write(line, KEPT, both + 'priority = "tests-low"\n')
        with cluster.submitted(low) as (first, one):
            first.said("cell 2")
            gone = on_the_node(cluster, one)
            high = write(line, KEPT, both + 'priority = "tests-high"\n')
            with cluster.submitted(high) as (second, two):
                second.said("cell 2")
                causes.seen(
                    one, "preempted, and waits for its GPUs", shows="Insufficient", says="free"
                )
                assert line("exec", two, "--", "touch", "go").status == 0
                assert second.end().status == 0
            first.said(f"pod {gone} is gone; this one goes on")
            told = first.end()
    assert told.status == 0, told
    assert made(line.folder / "runs" / one) == {"first.txt", "kept.txt"}
    removed(cluster, one, two)


# -- a node that is lost -------------------------------------------------------------------


@contextmanager
def lost() -> Iterator[None]:
    """Its kubelet is stopped; its containers go on, as behind a network that is cut."""
    labcluster("fail", NODE)
    try:
        yield
    finally:
        labcluster("heal", NODE)


def test_a_node_that_comes_back_in_time(cluster: Cluster, causes: Causes) -> None:
    line = cluster.line
    with cluster.submitted(write(line, KEPT, GPU)) as (run, name):
        run.said("cell 2")
        pod = on_the_node(cluster, name)
        with lost():
            causes.seen(
                name, "its node does not answer", shows="stopped posting", says="does not answer"
            )
            run.said("node lab2 does not answer")
        until(lambda: cluster.snapshot(name).pod.ready, "the pod is well again", 60)  # type: ignore[union-attr]
        assert on_the_node(cluster, name) == pod
        assert line("exec", name, "--", "touch", "go").status == 0
        told = run.end()
    assert told.status == 0, told
    assert line("status", name, "--json").data["attempts"] == 1
    removed(cluster, name)


def test_a_lost_node_whose_agent_lives_on(api: ApiClient, cluster: Cluster, causes: Causes) -> None:
    line = cluster.line
    with cluster.submitted(write(line, KEPT, EITHER)) as (run, name):
        run.said("cell 2")
        pod = on_the_node(cluster, name)
        with lost():
            causes.seen(
                name,
                "its node is lost, and its pod cannot end",
                shows="deletionTimestamp",
                says="cannot end there",
            )
            with taint(api, key=OUT_OF_SERVICE, value="nodeshutdown", effect="NoExecute"):
                run.said(f"pod {pod} is gone; this one goes on")
                told = run.end()
        assert told.status == 0, told
    record = line.folder / "runs" / name
    assert made(record) == {"first.txt", "kept.txt"}
    assert told_of_the_loss(record)
    assert line("verify", name).status == 0
    lines = [item for item, _ in read_lines(record / "transcript.jsonl")]
    second = next(i for i, item in enumerate(lines) if item.get("attempt") == 2)
    assert "lab2" not in json.dumps(lines[second:]), "the agent on the lost node was silent"
    ends = [item for item in lines if item["type"] == "end"]
    assert [item["state"] for item in ends] == ["done"]
    removed(cluster, name)
