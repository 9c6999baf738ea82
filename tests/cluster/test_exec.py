"""Commands in a container of a real cluster, with their input and output as streams."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient
from streaming_pod import HTTP, NAME, connect_as, relayed, streaming_pod

from runner.backends.kubernetes import exec as pod_exec
from runner.backends.kubernetes import websocket
from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.translate import (
    Forbidden,
    NotFound,
    Refused,
    Transient,
    Unauthorized,
    Untrusted,
)
from runner.backends.kubernetes.tunnel import forward
from runner.backends.reach import ExecError

pytestmark = pytest.mark.cluster

SIZE = 100_000_000


@pytest.fixture(scope="module")
def client(kubeconfig: Path, namespace: str) -> Client:
    return connect_as(kubeconfig, namespace)


@pytest.fixture(scope="module")
def pod(client: Client, images: Path) -> Iterator[str]:
    """A pod to run commands in."""
    with streaming_pod(client, images):
        yield NAME


def shell(client: Client, script: str, stdin: list[bytes] | None = None) -> pod_exec.Exec:
    return pod_exec.run(client, NAME, "main", ["sh", "-c", script], stdin)


def test_output_errors_and_exit_status(client: Client, pod: str) -> None:
    ran = shell(client, "echo out; echo err >&2")
    assert (b"".join(ran), ran.stderr) == (b"out\n", "err\n")
    with pytest.raises(ExecError, match="exit status 7: what went wrong") as caught:
        list(shell(client, "echo what went wrong >&2; exit 7"))
    assert caught.value.code == 7
    with pytest.raises(ExecError, match="nonesuch") as caught:
        list(pod_exec.run(client, NAME, "main", ["nonesuch"]))
    assert caught.value.code is None


def test_words_are_not_split(client: Client, pod: str) -> None:
    words = ["a b", "c&d=e", "$HOME", "é\n", "'\""]
    ran = pod_exec.run(client, NAME, "main", ["printf", "%s|", *words])
    assert b"".join(ran).decode() == "|".join(words) + "|"


class Awaited:
    """Counts output, and gives an end to the command's input when all of it has come.

    What is still on its way when a command ends, Kubernetes may cut off, and calls it a success:
    https://github.com/kubernetes/kubernetes/issues/124571. What the runner sends over `exec` says
    itself whether it is whole.
    """

    def __init__(self, size: int) -> None:
        self.left, self._whole = size, threading.Event()

    def take(self, piece: bytes) -> None:
        self.left -= len(piece)
        if self.left <= 0:
            self._whole.set()

    def end(self) -> Iterator[bytes]:
        """No input, until then."""
        assert self._whole.wait(240), f"{self.left} bytes never came"
        yield from ()


def test_a_hundred_megabytes_out(client: Client, pod: str) -> None:
    awaited = Awaited(SIZE)
    script = f"head -c {SIZE} /dev/zero; cat"
    for piece in pod_exec.run(client, NAME, "main", ["sh", "-c", script], awaited.end()):
        awaited.take(piece)
    assert awaited.left == 0


def test_a_hundred_megabytes_both_ways(client: Client, pod: str) -> None:
    block, got, awaited = os.urandom(1_000_000), hashlib.sha256(), Awaited(SIZE)
    blocks = itertools.chain(itertools.repeat(block, 100), awaited.end())
    for piece in pod_exec.run(client, NAME, "main", ["cat"], blocks):
        got.update(piece)
        awaited.take(piece)
    assert got.hexdigest() == hashlib.sha256(block * 100).hexdigest()


def test_input_ends(client: Client, pod: str) -> None:
    assert b"".join(shell(client, "wc -c", [b"abc", b"de"])).strip() == b"5"
    assert b"".join(shell(client, "wc -c", [])).strip() == b"0"


def test_short_outputs_are_whole_each_time(client: Client, pod: str) -> None:
    for _ in range(20):
        assert sum(map(len, shell(client, "head -c 300000 /dev/zero"))) == 300_000


def test_one_that_goes_on_is_pinged_and_can_be_closed(
    client: Client, pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PING_S", 0.2)
    monkeypatch.setattr(websocket, "DEAD_S", 1.0)
    monkeypatch.setattr(pod_exec, "PING_S", 0.1)
    ran = shell(client, "echo begun; exec sleep 77")
    began = time.monotonic()
    threading.Timer(3.0, ran.close).start()
    assert b"".join(ran) == b"begun\n"
    assert time.monotonic() - began >= 3.0  # the server answered the pings: it was not given up


def test_a_network_that_goes_away_is_no_end(
    kubeconfig: Path, namespace: str, pod: str, tmp_path: Path
) -> None:
    with relayed(kubeconfig, tmp_path) as (file, relay):
        client = connect_as(file, namespace)
        ran = shell(client, "echo begun; sleep 60")
        assert next(ran) == b"begun\n"
        relay.cut()
        with pytest.raises(Transient, match="run sh in streams/main"):
            list(ran)
        threading.Timer(2.0, relay.heal).start()
        assert b"".join(shell(client, "echo again")) == b"again\n"


def test_what_is_not_there(client: Client, pod: str) -> None:
    with pytest.raises(NotFound, match="run ls in nix/main"):
        pod_exec.run(client, "nix", "main", ["ls"])
    with pytest.raises(Refused, match="container nix is not valid"):
        pod_exec.run(client, NAME, "nix", ["ls"])


def account(api: ApiClient, client: Client, kubeconfig: Path, name: str, verbs: list[str]) -> str:
    """A kubeconfig's text for an account that has these verbs on exec and port-forward."""
    client.create("serviceaccounts", {"metadata": {"name": name}})
    rules = [{"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": verbs}]
    client.create("roles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": client.namespace}],
    }
    client.create("rolebindings", binding)
    path = f"/api/v1/namespaces/{client.namespace}/serviceaccounts/{name}/token"
    token = client.request("POST", path, body={"spec": {}})["status"]["token"]
    content = yaml.safe_load(kubeconfig.read_text())
    for item in content["users"]:
        item["user"] = {"token": token}
    return yaml.safe_dump(content)


def test_rights(api: ApiClient, client: Client, kubeconfig: Path, pod: str, tmp_path: Path) -> None:
    """`get` and `create`, as the chart gives them, is enough; a viewer's rights are not."""
    for name, verbs in (("both", ["get", "create"]), ("neither", ["list"])):
        (tmp_path / name).write_text(account(api, client, kubeconfig, name, verbs))
    both = connect_as(tmp_path / "both", client.namespace)
    assert b"".join(shell(both, "echo hi")) == b"hi\n"
    with forward(both, pod, HTTP):
        pass
    neither = connect_as(tmp_path / "neither", client.namespace)
    grant = f"--role=runner-researcher --serviceaccount={client.namespace}:neither"
    with pytest.raises(Forbidden, match="may not (get|create) pods/exec") as caught:
        shell(neither, "echo hi")
    assert grant in caught.value.hint
    with pytest.raises(Forbidden, match="pods/portforward"), forward(neither, pod, HTTP):
        raise AssertionError


def test_credentials_and_certificates(
    client: Client, kubeconfig: Path, pod: str, tmp_path: Path
) -> None:
    content = yaml.safe_load(kubeconfig.read_text())
    for item in content["users"]:
        item["user"] = {"token": "expired"}
    (tmp_path / "expired").write_text(yaml.safe_dump(content))
    expired = connect_as(tmp_path / "expired", client.namespace)
    for call in (lambda: shell(expired, "true"), lambda: expired.list("pods")):
        with pytest.raises(Unauthorized, match="does not accept the credentials"):
            call()
    content = yaml.safe_load(kubeconfig.read_text())
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca")]
    subprocess.run([*made, *files], check=True, capture_output=True)
    for item in content["clusters"]:
        for key in ("certificate-authority-data", "insecure-skip-tls-verify"):
            item["cluster"].pop(key, None)
        item["cluster"]["certificate-authority"] = str(tmp_path / "ca")
    (tmp_path / "other").write_text(yaml.safe_dump(content))
    other = connect_as(tmp_path / "other", client.namespace)
    for call in (lambda: shell(other, "true"), lambda: other.list("pods")):
        with pytest.raises(Untrusted, match="no trusted connection"):
            call()
