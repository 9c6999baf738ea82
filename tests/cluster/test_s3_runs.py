"""Runs whose records are in S3: written from the pod, read here without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cluster_access
import pytest
import this_machine
from cluster_lab import ClusterLab
from moto.server import ThreadedMotoServer
from tiny_runs import cell, end, held

from runner.backends import backend_of
from runner.backends.kubernetes.client import connect
from runner.cluster import CONFIG_MAP, KEY
from runner.errors import InfrastructureError
from runner.record.verify import verify
from runner.settings import load_settings

pytestmark = pytest.mark.cluster

KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "a-key-of-the-lab"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server that pods reach; its address."""
    address = this_machine.address()
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    url = f"http://{address}:{server.get_host_and_port()[1]}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket="lab")
    client.close()
    yield url
    server.stop()


@pytest.fixture
def lab(
    server: str, namespace: str, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ClusterLab]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "runner-s3"}}
    cluster_access.apply(api, namespace, {**secret, "stringData": KEYS})
    s3 = {"url": "s3://lab/runs", "endpointUrl": server, "region": "us-east-1"}
    values = {"records": {"claim": None, "s3": {**s3, "secret": "runner-s3"}}}
    cluster_access.install_chart(namespace, cluster_access.images(), tmp_path, values)
    lab = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield lab
    lab.close()


def test_a_run_is_kept_in_s3_and_got_back_without_its_pod(lab: ClusterLab, tmp_path: Path) -> None:
    write = "open('outputs/made.txt', 'w').write('x' * 7)\nprint('hello')"
    run = lab.submit([cell(write), end()], '[sandbox]\nlocal_files = ["data.csv"]\n', FILES)
    status = run.over()
    assert (status.state, status.reason) == ("done", "the agent ended the run")
    assert verify(run.path, None).ok
    assert (run.path / "outputs" / "made.txt").read_text() == "x" * 7
    pods = lab.objects(run.run_id)["pods"]
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {"run"}

    lab.backend.delete(run.handle)
    elsewhere = backend_of(load_settings(**{**lab.given, "runs": str(tmp_path / "elsewhere")}))
    elsewhere.sync(elsewhere.attach(run.run_id))
    copy = tmp_path / "elsewhere" / run.run_id
    assert verify(copy, None).ok
    for name in ("transcript.jsonl", "journal.jsonl", "outputs/made.txt"):
        assert (copy / name).read_bytes() == (run.path / name).read_bytes()
    assert "hello" in (copy / "notebook.ipynb").read_text()
    logs = list(elsewhere.logs(elsewhere.attach(run.run_id), follow=False))
    assert {"agent", "sandbox"} <= {line.source for line in logs}
    for file in copy.rglob("*"):
        assert not file.is_file() or KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in file.read_bytes()
    elsewhere.delete_record(elsewhere.attach(run.run_id))
    assert not copy.exists()


def test_a_run_whose_store_is_gone_can_be_deleted(lab: ClusterLab) -> None:
    run = lab.submit([cell(held()), end()])
    run.state("running")
    config_map = lab.client.read("configmaps", CONFIG_MAP)
    chart = json.loads(config_map["data"][KEY])
    chart["records"]["s3"]["endpointUrl"] = f"http://{lab.address}:1"
    lab.client.patch("configmaps", CONFIG_MAP, {"data": {KEY: json.dumps(chart)}})
    backend = backend_of(load_settings(**lab.given))
    handle = backend.attach(run.run_id)
    backend.delete(handle)
    assert not lab.objects(run.run_id)["jobs"]
    with pytest.raises(InfrastructureError, match="s3://lab/runs"):
        backend.delete_record(handle)
    assert run.path.exists()


FILES = {"data.csv": "a,b\n"}
