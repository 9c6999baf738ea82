"""A run's record in the cluster's store, and its mirror here: on a claim, and in S3."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, CoreV1Api
from moto.server import ThreadedMotoServer
from test_record import PLAN, journal_line
from test_stream import count, finish, grow, same, until

from runner.backends.kubernetes import exec as pod_exec
from runner.backends.kubernetes import manifests, store_pod
from runner.backends.kubernetes.client import Client, connect
from runner.backends.kubernetes.reach import PodReach
from runner.backends.mirror import Mirror
from runner.backends.reach import COMMAND
from runner.cluster import Cluster, example
from runner.errors import InfrastructureError, RecordError, RunNotFound
from runner.record import Record, read_lines
from runner.record.verify import verify

pytestmark = pytest.mark.cluster

DEADLINE_S = 90.0
AGENT = """
import os, pathlib, sys, time
from runner.pod import layout, send
from runner.record import Record
record = Record.open(layout.RECORD, write=True)
lock = record.take_lock()
send.BEGUN.touch()
number = 0
while not (layout.RECORD / "stop").exists():
    number += 1
    record.add_journal([{"seq": number, "type": "warning", "text": "x" * 1000}])
    record.say("tool_result", turn=number, journal=record.journal_mark(), content=[])
    time.sleep(0.2)
record.say("outputs", files=[record.add_output("late.bin", os.urandom(3_000_000))])
record.say("end", state="done", reason="", bound=None, exit_status=0, journal=record.journal_mark())
record.close()
os.close(lock)
print("followed to the end:", send.wait_for_senders(10.0), flush=True)
"""


@pytest.fixture(scope="module")
def cluster(images: Path, apply: Callable[..., Any]) -> Cluster:
    """Settings with a claim for records, and what pods need."""
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner-pod"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "runner-records"},
            "spec": claim,
        },
    )
    return example(
        images=yaml.safe_load(images.read_text())["images"],
        resources={"agentCpu": "50m", "agentMemory": "256Mi"},
    )


@pytest.fixture(scope="module")
def client(kubeconfig: Path, namespace: str) -> Client:
    return connect(namespace=namespace)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """The record of a run that was just submitted, on the user's machine."""
    made = Record.create(tmp_path / "runs", f"h-{time.time_ns():x}"[-20:].strip("-"), PLAN)
    yield made
    made.close()


def run_id(record: Record) -> str:
    return record.path.name


def mirror_of(client: Client, cluster: Cluster, run: str, local: Path) -> Mirror:
    return Mirror(PodReach(client, cluster, run), run, local)


@pytest.fixture
def mirror(client: Client, cluster: Cluster, record: Record) -> Mirror:
    return mirror_of(client, cluster, run_id(record), record.path)


@pytest.fixture
def elsewhere(client: Client, cluster: Cluster, record: Record, tmp_path: Path) -> Mirror:
    """The same run's mirror on another machine."""
    return mirror_of(client, cluster, run_id(record), tmp_path / "elsewhere")


def pods(client: Client, run: str) -> list[str]:
    items = client.list("pods", labels=f"runner/run={run},app.kubernetes.io/component=store")
    return [item["metadata"]["name"] for item in items]


# -- on a claim ----------------------------------------------------------------------------


def test_a_run_that_is_not_there(mirror: Mirror, elsewhere: Mirror, tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="has no run"):
        elsewhere.sync()
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(RunNotFound):
        elsewhere.close("failed", "lost", 3)


def test_a_large_record_goes_up_and_comes_back(
    mirror: Mirror,
    elsewhere: Mirror,
    record: Record,
    client: Client,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    grow(record)
    record.add_output("large.bin", bytes(range(256)) * 40_000)
    record.close()
    mirror.upload()
    elsewhere.sync()
    same(record.path, tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere").ok
    until(lambda: pods(client, run_id(record)) == [], "its pods are gone", DEADLINE_S)
    other = Record.create(tmp_path / "other", run_id(record), {**PLAN, "name": "another"})
    other.close()
    with pytest.raises(InfrastructureError, match="has other lines"):
        mirror_of(client, cluster, run_id(record), other.path).upload()


def test_a_lost_run_is_given_its_end(
    mirror: Mirror, elsewhere: Mirror, record: Record, tmp_path: Path
) -> None:
    grow(record)
    record.close()
    mirror.close("failed", "it's gone: the node\nwas lost", 3)  # never was in the store
    assert verify(record.path).ok
    state = Record.open(record.path).state()
    assert (state.state, state.reason, state.exit_status) == (
        "failed",
        "it's gone: the node\nwas lost",
        3,
    )
    elsewhere.sync()
    same(record.path, tmp_path / "elsewhere")
    elsewhere.close("failed", "again", 3)
    mirror.sync()
    assert (
        sum(line["type"] == "end" for line, _ in read_lines(record.path / "transcript.jsonl")) == 1
    )


def other_client(client: Client, cluster: Cluster, record: Record, top: Path) -> Mirror:
    """Another one that has the record which was never in the store."""
    shutil.copytree(record.path, top / "other")
    return mirror_of(client, cluster, run_id(record), top / "other")


def both_ended(record: Record, top: Path) -> None:
    for path in (record.path, top / "other"):
        assert verify(path).ok
        lines = read_lines(path / "transcript.jsonl")
        assert sum(line["type"] == "end" for line, _ in lines) == 1


def test_two_clients_that_end_a_run_at_once(
    mirror: Mirror, client: Client, cluster: Cluster, record: Record, tmp_path: Path
) -> None:
    grow(record)
    record.close()
    other = other_client(client, cluster, record, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(one.close, "cancelled", "by the user", 130) for one in (mirror, other)]
        for end in ends:
            end.result()
    both_ended(record, tmp_path)


@pytest.mark.parametrize("kind", ["claim", "s3"])
def test_a_client_that_comes_second_with_a_record(
    kind: str,
    client: Client,
    request: pytest.FixtureRequest,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = request.getfixturevalue("cluster" if kind == "claim" else "in_s3")
    record.close()
    second = mirror_of(client, cluster, run_id(record), record.path)
    first = other_client(client, cluster, record, tmp_path)
    upload = second.upload

    def late() -> None:
        first.close("cancelled", "by the user", 130)
        upload()

    monkeypatch.setattr(second, "upload", late)
    second.close("cancelled", "by the user", 130)
    both_ended(record, tmp_path)


def test_a_deleted_record_is_gone(mirror: Mirror, record: Record) -> None:
    with mirror.reached():
        mirror.upload()
        mirror.sync()
        mirror.delete()
        with pytest.raises(RunNotFound):
            mirror.sync()


def test_a_store_that_cannot_be_reached_says_why(
    client: Client, cluster: Cluster, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pod, "START_S", 3.0)
    lacking = cluster.model_copy(
        update={"records": cluster.records.model_copy(update={"claim": "no-such-claim"})}
    )
    with pytest.raises(InfrastructureError, match=r"no-such-claim.* not found"):
        mirror_of(client, lacking, run_id(record), record.path).sync()
    assert pods(client, run_id(record)) == []


# -- following an agent --------------------------------------------------------------------


@pytest.fixture
def agent(
    mirror: Mirror, record: Record, cluster: Cluster, client: Client, apply: Callable[..., Any]
) -> str:
    """A pod whose `agent` writes the record until there is a file `stop` beside it; its name."""
    mirror.upload()
    pod = manifests.store_pod(run_id(record), cluster, name=f"{run_id(record)}-a", seconds=300)
    pod["metadata"]["labels"]["app.kubernetes.io/component"] = "run"
    pod["spec"]["containers"][0] |= {
        "name": "agent",
        "command": ["tini", "--", COMMAND[0], "-P", "-c", AGENT],
    }
    apply(pod)
    until(lambda: mirror.agent() is not None, "the agent runs", DEADLINE_S)
    return str(pod["metadata"]["name"])


def tell(client: Client, pod: str, *argv: str) -> str:
    """Run a command in the agent's container."""
    with pod_exec.run(client, pod, "agent", argv) as ran:
        return b"".join(ran).decode()


def stop(client: Client, pod: str) -> None:
    tell(client, pod, COMMAND[0], "-c", "open('/record/stop', 'w')")


def ended(client: Client, pod: str) -> str:
    """What the agent printed, once it has ended."""
    until(
        lambda: client.read("pods", pod)["status"]["phase"] in ("Succeeded", "Failed"),
        "the pod ended",
        DEADLINE_S,
    )
    return b"".join(client.log(pod, "agent")).decode()


def test_lines_come_as_they_are_written_and_all_of_it_at_the_end(
    agent: str, elsewhere: Mirror, client: Client, record: Record, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    transcript = copy / "transcript.jsonl"
    with elsewhere.following():
        until(lambda: count(transcript) > 2, "lines come", DEADLINE_S)
        for _ in range(10):
            before = count(transcript)
            until(lambda before=before: count(transcript) > before, "another line")
            assert Record.open(copy).glance().state == "created"
        stop(client, agent)
        until(lambda: Record.open(copy).glance().is_over, "the end", DEADLINE_S)
        until(lambda: (copy / "outputs" / "late.bin").exists(), "its last output", DEADLINE_S)
        assert "followed to the end: True" in ended(client, agent)
    assert pods(client, run_id(record)) == []  # the stream had it all
    assert verify(copy).ok, verify(copy).findings


def test_a_connection_that_is_cut_costs_nothing(
    agent: str, elsewhere: Mirror, client: Client, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    with elsewhere.following():
        for _ in range(2):
            before = count(copy / "transcript.jsonl")
            until(
                lambda before=before: count(copy / "transcript.jsonl") > before + 2,
                "lines come",
                DEADLINE_S,
            )
            until(
                lambda: tell(client, agent, COMMAND[0], "-c", KILL).strip() == "1",
                "what sends was killed",
                DEADLINE_S,
            )
        stop(client, agent)
        until(lambda: Record.open(copy).glance().is_over, "the end", DEADLINE_S)
    elsewhere.sync()
    assert verify(copy).ok


# In two parts, so that it does not find itself.
KILL = """
import os, pathlib, signal
found = []
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and b"--fol" b"low" in (entry / "cmdline").read_bytes():
        os.kill(int(entry.name), signal.SIGKILL)
        found.append(entry)
print(len(found))
"""


def test_an_agent_that_dies_leaves_a_record_that_can_be_had(
    agent: str, elsewhere: Mirror, client: Client, record: Record, api: ApiClient, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    with elsewhere.following():
        until(lambda: count(copy / "transcript.jsonl") > 2, "lines come", DEADLINE_S)
        CoreV1Api(api).delete_namespaced_pod(agent, client.namespace, grace_period_seconds=0)
        until(lambda: elsewhere.agent() is None, "the agent is gone", DEADLINE_S)
    elsewhere.close("failed", "its pod was deleted", 3)
    assert verify(copy).ok
    assert Record.open(copy).state().reason == "its pod was deleted"


def test_what_is_followed_is_not_overwritten(
    agent: str, mirror: Mirror, client: Client, record: Record
) -> None:
    with pytest.raises(InfrastructureError, match=r"another process drives|has other lines"):
        mirror.upload()
    stop(client, agent)
    ended(client, agent)
    with pytest.raises(InfrastructureError, match="has other lines"):
        mirror.upload()
    mirror.sync()
    assert verify(record.path).ok


# -- in S3 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_s3(cluster: Cluster, client: Client, apply: Callable[..., Any]) -> Iterator[Cluster]:
    """Settings with an S3 store, whose keys are in a Secret."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-value"}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "store-keys"},
            "data": {
                name: base64.b64encode(value.encode()).decode() for name, value in keys.items()
            },
        }
    )
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )
    s3.create_bucket(Bucket="records")
    s3.close()
    records = {"s3": {"url": "s3://records/lab", "endpointUrl": url, "secret": "store-keys"}}
    yield Cluster.model_validate({**cluster.model_dump(by_alias=True), "records": records})
    server.stop()


@pytest.fixture
def no_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_own_keys")
def test_s3_is_reached_directly(
    in_s3: Cluster, client: Client, record: Record, tmp_path: Path
) -> None:
    run = run_id(record)
    here = mirror_of(client, in_s3, run, record.path)
    there = mirror_of(client, in_s3, run, tmp_path / "elsewhere")
    with pytest.raises(RunNotFound):
        there.sync()
    here.upload()
    with there.following():
        until(lambda: count(tmp_path / "elsewhere" / "transcript.jsonl") == 1, "the first line")
        grow(record)
        record.add_journal([journal_line(9, "warning", text="x")])
        finish(record)
        here.upload()
        until(lambda: Record.open(tmp_path / "elsewhere").glance().is_over, "the end")
    there.sync()
    same(record.path, tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere").ok
    assert pods(client, run) == []
    there.delete()
    with pytest.raises(RunNotFound):
        there.sync()


@pytest.mark.usefixtures("no_own_keys")
def test_an_end_in_s3(in_s3: Cluster, client: Client, record: Record, tmp_path: Path) -> None:
    record.close()
    mirror_of(client, in_s3, run_id(record), record.path).close("cancelled", "by the user", 130)
    there = mirror_of(client, in_s3, run_id(record), tmp_path / "elsewhere")
    there.sync()
    assert Record.open(tmp_path / "elsewhere").state().state == "cancelled"
    assert verify(tmp_path / "elsewhere").ok
    other = Record.create(tmp_path / "other", run_id(record), {**PLAN, "name": "another"})
    other.close()
    with pytest.raises(RecordError, match="another process"):
        mirror_of(client, in_s3, run_id(record), other.path).upload()
