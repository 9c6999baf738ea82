"""What `doctor` says of a cluster, from values: nodes, clocks, and what a probe saw."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_server import answering, kubeconfig

from runner import cli
from runner.backends.kubernetes import manifests, probe
from runner.backends.kubernetes.gpus import GpuNode, gpu_nodes
from runner.backends.kubernetes.probe import Network, Pull, Try
from runner.cli import cluster_probe, cluster_room
from runner.cli.cluster_checks import skew
from runner.cluster import Cluster, example
from runner.errors import UsageError
from runner.pod import probe as in_pod

A100 = "NVIDIA-A100-SXM4-80GB"
CLUSTER = example()
Out = pytest.CaptureFixture[str]


# -- nodes -----------------------------------------------------------------------------------


def node(name: str, product: str | None = A100, gpus: int = 8, **spec: Any) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product} if product else {}
    ready = {"type": "Ready", "status": spec.pop("ready", "True")}
    status = {"allocatable": {"nvidia.com/gpu": str(gpus)}, "conditions": [ready]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def pod(where: str | None, gpus: int, phase: str = "Running") -> dict[str, Any]:
    container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"containers": [container], **({"nodeName": where} if where else {})}
    return {"spec": spec, "status": {"phase": phase}}


def said(found: list[GpuNode]) -> list[str]:
    classes = cluster_room.of_classes(found, CLUSTER)
    unused = [check for one in found for check in cluster_room.unused(one, CLUSTER, "team")]
    return [f"{check.found} → {check.mend}" for check in (*classes, *unused)]


def test_free_gpus_are_those_that_no_pod_has() -> None:
    pods = [pod("a", 3), pod("a", 1, "Pending"), pod("a", 4, "Succeeded"), pod(None, 8)]
    found = list(gpu_nodes([node("a"), node("b", gpus=4)], pods, CLUSTER.gpu_classes))
    assert [one.free for one in found] == [4, 4]
    assert said(found) == [f"{A100} (A100): 4 of 8 free on a, 4 of 4 free on b → "]


def test_without_the_right_to_see_pods() -> None:
    [found] = gpu_nodes([node("a")], None, CLUSTER.gpu_classes)
    assert found.free is None
    assert said([found]) == [f"{A100} (A100): 8 on a → "]


@pytest.mark.parametrize(
    ("one", "words", "mend"),
    [
        (node("a", "B200"), "a has 8 of no class", "--set 'gpuClasses.NAME.values={B200}'"),
        (node("a", None), "a has 8 and no label nvidia.com/gpu.product", "kubectl label node a"),
        (node("a", unschedulable=True), "a: it is cordoned", "kubectl uncordon a"),
        (node("a", ready="Unknown"), "a: it is not ready", "kubectl describe node a"),
        (
            node("a", taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}]),
            "a: its taint team=b:NoSchedule is not tolerated",
            "gpuClasses.A100.tolerations",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_gpus_that_no_run_gets(one: dict[str, Any], words: str, mend: str) -> None:
    told = said(list(gpu_nodes([one], [], CLUSTER.gpu_classes)))[-1]
    assert words in told
    assert mend in told


def test_nodes_that_runs_get_are_not_told_of() -> None:
    taint = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    found = list(gpu_nodes([node("a", taints=[taint])], [], CLUSTER.gpu_classes))
    assert len(said(found)) == 1
    assert list(gpu_nodes([node("cpu", None, 0)], [], CLUSTER.gpu_classes)) == []


# -- version and clock -----------------------------------------------------------------------


def test_an_old_cluster_is_a_problem(tmp_path: Path, monkeypatch: Any, capsys: Out) -> None:
    with answering((200, {"major": "1", "minor": "28+"})) as (server, _):
        kubeconfig(tmp_path, server)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        assert cli.main(["doctor", "--backend", "kubernetes"]) == 3
    told = capsys.readouterr().out
    assert "problem  cluster: Kubernetes 1.28 at" in told
    assert "a cluster of 1.29 or later: the sandbox is a native sidecar" in told


@pytest.mark.parametrize(
    ("ahead", "ok", "words"),
    [
        (2, True, "as the API server's"),
        (73, None, "1 min 13 s ahead of the API"),
        (-9, None, "9.0 s behind"),
    ],
)
def test_clocks(ahead: int, ok: bool | None, words: str) -> None:
    there = datetime(2027, 3, 1, tzinfo=UTC)
    check = skew(there, there + timedelta(seconds=ahead))
    assert check.ok is ok
    assert check.found.startswith(words)
    assert (ok is True) == (check.mend == "")


# -- the probe -------------------------------------------------------------------------------

DENIED, OPEN, NOBODY = ("silent", "reached"), ("reached", "reached"), ("silent", "silent")
META, SERVER = "the metadata address 169.254.169.254:80", "the API server"


def seen(
    out: tuple[str, str] = DENIED,
    into: str = "silent",
    meta: tuple[str, str] = NOBODY,
    server: tuple[str, str] = DENIED,
    **more: Any,
) -> Network:
    return Network(
        out=Try("a pod of the namespace", *out),
        into=Try("a run's server", "reached", into),
        names=Try("the cluster's DNS", "refused", "refused"),
        forbidden=(Try(META, *meta), Try(SERVER, *server)),
        **more,
    )


def words_of(network: Network) -> list[tuple[bool | None, str]]:
    checks = cluster_probe.network(network, "install a plugin")
    return [(check.ok, check.found) for check in checks]


def test_policies_that_hold() -> None:
    words = "policies are enforced: a run reaches no other pod, and no pod a run"
    more = f"; denied: {SERVER}; nothing answers anyhow: {META}"
    assert words_of(seen()) == [(True, words + more)]
    [(_, told)] = words_of(seen(late_s=2.0))
    assert told.startswith("policies are enforced, 2.0 s after its start")


def test_a_refusal_is_no_way_through() -> None:
    """A policy that rejects, and a host where nothing listens, say the same."""
    assert seen(out=("refused", "reached")).enforced
    assert not Try("it", "refused", "refused").through


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (seen(out=OPEN, into="reached", server=OPEN), "a run reaches a pod of the namespace, the API server; another pod reaches a run's server"),
        (seen(into="reached"), "another pod reaches a run's server"),
        (seen(out=OPEN), "a run reaches a pod of the namespace"),
    ],
)  # fmt: skip
def test_policies_that_do_not_hold(network: Network, words: str) -> None:
    assert words_of(network)[0] == (False, f"policies are not enforced: {words}")


def test_holes_in_policies_that_hold() -> None:
    reached = "network.allow lists it, or it is a public address"
    assert (None, f"a run reaches {SERVER}: {reached}") in words_of(seen(server=OPEN))
    assert (False, f"a run reaches {META}: {reached}") in words_of(seen(meta=OPEN))


def test_what_runs_want() -> None:
    wanted = (Try("the hub (h:443)", *OPEN), Try("the index", *DENIED), Try("a mirror", *NOBODY))
    told = [words for _, words in words_of(seen(wanted=wanted))]
    assert told[1:] == [
        "a run reaches the hub (h:443)",
        "a run does not reach the index; other pods do",
        "a run does not reach a mirror; nor do other pods",
    ]


def test_images() -> None:
    base = CLUSTER.images.catalogue[0].image
    pulls = [Pull(CLUSTER.images.agent, True), Pull(base, False, "not found")]
    good, bad = cluster_probe.images(pulls, CLUSTER)
    assert good.found == "1 image pulled: agent"
    assert (bad.ok, bad.found) == (False, f"base ({base}) cannot be pulled: not found")
    [late] = cluster_probe.images([Pull(base, None, "ContainerCreating")], CLUSTER)
    assert (late.ok, "was not there in time" in late.found) == (None, True)


def test_what_is_wanted_follows_the_settings() -> None:
    assert list(probe.wanted_of(CLUSTER).values()) == ["huggingface.co:443"]
    mirrors = {"HF_ENDPOINT": "https://hub.lab.example:8443", "UV_DEFAULT_INDEX": "http://pypi.lab"}
    named = example(pods={"env": mirrors})
    assert list(probe.wanted_of(named).values()) == ["hub.lab.example:8443", "pypi.lab:80"]
    proxied: Cluster = example(network={"httpsProxy": "http://proxy.lab.example:3128"})
    assert probe.wanted_of(proxied) == {"the proxy": "proxy.lab.example:3128"}


def test_one_pod_is_a_runs_for_the_policies_and_one_is_nobodys() -> None:
    cluster = example(pods={"labels": {"team": "a", "app.kubernetes.io/name": "other"}})
    run, other, images = manifests.probe_pods("probe-1", cluster, seconds=60)
    labels = [one["metadata"]["labels"] for one in (run, other, images)]
    selector = {"app.kubernetes.io/name": "runner", "app.kubernetes.io/component": "run"}
    assert selector.items() <= labels[0].items()
    assert "app.kubernetes.io/name" not in labels[1]
    assert all(one[manifests.PROBE] == "probe-1" and one["team"] == "a" for one in labels)
    assert not any("runner/run" in one for one in labels), "what lists runs sees it"
    assert [c["image"] for c in images["spec"]["containers"]] == [
        cluster.images.agent,
        cluster.images.catalogue[0].image,
    ]


def test_probe_is_of_clusters_alone(capsys: Out) -> None:
    assert cli.main(["doctor", "--backend", "local", "--probe"]) == 2
    assert "runner doctor --backend kubernetes --probe" in capsys.readouterr().err


# -- inside of the pod -----------------------------------------------------------------------


def test_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with in_pod.listening("127.0.0.1", 0) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        port = server.getsockname()[1]
        monkeypatch.setenv("SOME_PORT", str(port))
        places = [f"127.0.0.1:{port}", "127.0.0.1:$SOME_PORT"]
        refused = f"127.0.0.1:{bound.getsockname()[1]}"
        assert in_pod.tried([*places, refused]) == {
            **dict.fromkeys(places, "reached"),
            refused: "refused",
        }


def test_there_is_room_for_any_number_of_connections() -> None:
    leave = threading.Event()
    with in_pod.listening("127.0.0.1", 0) as server:
        thread = threading.Thread(target=in_pod.answer, args=(server, leave, 60.0))
        thread.start()
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert {in_pod.outcome(place) for _ in range(200)} == {"reached"}
        leave.set()
        thread.join()


@pytest.mark.parametrize("words", [[], ["try"], ["listen"], ["listen", "soon"], ["other", "1"]])
def test_other_words_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="expected listen SECONDS or try"):
        in_pod.main(words)
