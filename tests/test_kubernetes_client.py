"""The client of the API server: kubeconfigs, requests and retries, and errors in our words."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from api_server import TOKEN, answering, failure, kubeconfig

from runner.backends.kubernetes import client as client_module
from runner.backends.kubernetes import configuration
from runner.backends.kubernetes.client import Client, connect
from runner.backends.kubernetes.translate import (
    Conflict,
    Forbidden,
    NoNamespace,
    NotFound,
    NotTaken,
    Refused,
    Transient,
    Unauthorized,
    Untrusted,
    refusal,
    untrusted,
)
from runner.errors import InfrastructureError, RunnerError, UsageError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client_module, "FIRST_S", 0.3)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(configuration, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")
    for name in ("KUBECONFIG", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def connected(monkeypatch: pytest.MonkeyPatch, file: Path, **given: Any) -> Client:
    monkeypatch.setenv("KUBECONFIG", str(file))
    return connect(**given)


# -- kubeconfigs ---------------------------------------------------------------------------


def test_no_kubeconfig_says_where_it_was_looked_for() -> None:
    with pytest.raises(UsageError, match="no kubeconfig: ~/.kube/config does not exist") as caught:
        connect()
    assert "export KUBECONFIG=FILE" in caught.value.hint


def test_a_variable_that_names_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        connected(monkeypatch, tmp_path / "nowhere")


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ".kube"
    folder.mkdir()
    kubeconfig(folder, "http://127.0.0.1:1").rename(folder / "config")
    monkeypatch.setenv("KUBECONFIG", "")
    assert connect().access.context == "lab"


def test_namespace_of_the_context_and_the_one_that_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:1", context={"namespace": "team"})
    assert connected(monkeypatch, file).namespace == "team"
    assert connected(monkeypatch, file, namespace="other").namespace == "other"
    assert connected(monkeypatch, kubeconfig(tmp_path, "http://h")).namespace == "default"


def test_two_files_are_one_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    text = kubeconfig(second, "http://there").read_text().replace("lab", "far")
    (second / "kubeconfig").write_text(text)
    first = kubeconfig(tmp_path, "http://here")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'missing'}:{second / 'kubeconfig'}")
    assert connect(context="far").access.server == "http://there"


def test_an_unknown_context_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no context is named 'lba' \(there: lab\)"):
        connected(monkeypatch, kubeconfig(tmp_path, "http://h"), context="lba")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "file is empty"),
        ("{", "not a kubeconfig that can be used"),
        ("- a\n- b\n", "not a kubeconfig that can be used"),
        ("kind: Config\n", r"no context is chosen \(there: none\)"),
        ("contexts: [{name: lab, context: {cluster: nix}}]\n", "no context is chosen"),
        (
            "current-context: lab\ncontexts: [{name: lab, context: {cluster: nix}}]\n",
            "Expected object with name nix",
        ),
        ("current-context: gone\ncontexts: []\n", "no context is named 'gone'"),
    ],
)
def test_a_file_that_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "broken"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        connected(monkeypatch, file)


def plugin(code: str) -> dict[str, Any]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", code],
            "interactiveMode": "Never",
        }
    }


def test_a_plugin_that_fails_is_told_in_its_words_and_logs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = plugin("raise SystemExit('please log in first')")
    file = kubeconfig(tmp_path, "http://127.0.0.1:1", user=user)
    with pytest.raises(UsageError, match="please log in first"):
        connected(monkeypatch, file)
    ours = [item for item in logging.getLogger().handlers if isinstance(item, configuration._Heard)]
    assert not ours


def test_a_plugin_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = plugin("")
    user["exec"]["command"] = "gke-gcloud-auth-plugin-nix"
    with pytest.raises(UsageError, match="no credentials: .*gke-gcloud-auth-plugin-nix"):
        connected(monkeypatch, kubeconfig(tmp_path, "http://127.0.0.1:1", user=user))


def test_a_plugin_gives_a_token_and_another_when_it_has_expired(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    code = (
        "import json, pathlib\n"
        f"file = pathlib.Path({str(counter)!r})\n"
        "number = int(file.read_text()) + 1 if file.exists() else 1\n"
        "file.write_text(str(number))\n"
        "status = {'token': f't{number}', 'expirationTimestamp': '2001-01-01T00:00:00Z'}\n"
        "version = 'client.authentication.k8s.io/v1'\n"
        "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': status}))"
    )
    with answering((200, {"ok": True})) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url, user=plugin(code)))
        client.request("GET", "/version")
        client.request("GET", "/version")
    assert [asked.token for asked in script.asked] == ["t2", "t3"]


def test_in_a_pod_without_a_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kubernetes.config import incluster_config

    account = tmp_path / "serviceaccount"
    account.mkdir()
    for name, text in (("token", TOKEN), ("namespace", "team\n"), ("ca.crt", "PEM")):
        (account / name).write_text(text)
    loader = incluster_config.InClusterConfigLoader
    monkeypatch.setattr(
        incluster_config,
        "InClusterConfigLoader",
        lambda **_: loader(str(account / "token"), str(account / "ca.crt")),
    )
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    client = connect()
    assert (client.namespace, client.access.server) == ("team", "https://10.0.0.1:443")
    assert client.access.authorization() == f"bearer {TOKEN}"
    with pytest.raises(UsageError, match="no kubeconfig"):
        connect(context="lab")


def test_no_credentials_in_reprs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = connected(monkeypatch, kubeconfig(tmp_path, "http://h"))
    assert client.access.authorization() == f"Bearer {TOKEN}"
    assert TOKEN not in f"{client!r} {client} {client.access!r} {client.access}"


def test_importing_the_client_loads_neither_kubernetes_nor_websockets() -> None:
    code = (
        "import sys, runner.backends.kubernetes.client, runner.backends.kubernetes.exec,"
        "runner.backends.kubernetes.tunnel\n"
        "print([name for name in ('kubernetes', 'websockets', 'urllib3') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_requests_need_no_generated_api_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from runner.backends.kubernetes.client import connect\n"
        "connect().list('pods')\n"
        "print([name for name in sys.modules if name.startswith('kubernetes.client.api.')])"
    )
    with answering((200, {"items": [], "metadata": {}})) as (url, _):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, url)))
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    assert ran.stdout.strip() == "[]"


# -- requests ------------------------------------------------------------------------------


def test_paths_queries_and_bodies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with answering((200, {"status": {"allowed": True}})) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url), namespace="team")
        client.create("jobs", {"metadata": {"name": "a"}}, dry_run=True)
        client.read("nodes", "x/y")
        client.patch("jobs", "a", {"spec": {"suspend": False}})
        client.delete("pods", "p", grace_s=0)
        client.delete_all("pods", labels="a=b,c")
        assert client.may("create", "jobs")
    base = "/apis/batch/v1/namespaces/team/jobs"
    assert [(asked.method, asked.path) for asked in script.asked] == [
        ("POST", f"{base}?fieldManager=runner&dryRun=All"),
        ("GET", "/api/v1/nodes/x%2Fy"),
        ("PATCH", f"{base}/a?fieldManager=runner"),
        ("DELETE", "/api/v1/namespaces/team/pods/p"),
        ("DELETE", "/api/v1/namespaces/team/pods?labelSelector=a%3Db%2Cc"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ]
    assert script.asked[3].body == {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
    asked = script.asked[5].body["spec"]["resourceAttributes"]
    assert (asked["group"], asked["namespace"]) == ("batch", "team")
    assert {asked.token for asked in script.asked} == {TOKEN}


def test_long_lists_come_in_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pages = (
        (200, {"items": [{"n": 1}, {"n": 2}], "metadata": {"continue": "more/="}}),
        (200, {"items": [{"n": 3}], "metadata": {}}),
    )
    with answering(*pages) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        assert [item["n"] for item in client.list("pods", labels="a=b")] == [1, 2, 3]
    assert "continue=more%2F%3D" in script.asked[1].path
    assert all("labelSelector=a%3Db" in asked.path for asked in script.asked)


def test_warnings_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with answering((201, {}), Warning='299 - "would violate PodSecurity"') as (url, _):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        said: list[str] = []
        client.create("pods", {}, warnings=said)
    assert said == ["would violate PodSecurity"]


def test_what_is_gone_is_no_error_to_delete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with answering(failure(404, 'jobs.batch "a" not found', kind="jobs")) as (url, _):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        client.delete("jobs", "a")
        with pytest.raises(NotFound):
            client.read("jobs", "a")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    monkeypatch.setattr(client_module, "FIRST_S", 10.0)
    with answering(failure(status, "busy"), failure(status, "busy"), (200, {"a": 1})) as (url, _):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        assert client.read("jobs", "a") == {"a": 1}


def test_a_refusal_just_after_a_restart_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its Roles may not be loaded yet; one that was there all the time is believed at once."""
    monkeypatch.setattr(client_module, "FIRST_S", 10.0)
    words = 'User "jane" cannot list resource "pods" in API group "" in the namespace "team"'
    forbidden = failure(403, f"pods is forbidden: {words}")
    back = (200, {"items": [], "metadata": {}})
    with answering(failure(503, "starting"), forbidden, forbidden, back) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        assert client.list("pods") == []
        assert len(script.asked) == 4
    with answering(forbidden, back) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        with pytest.raises(Forbidden):
            client.list("pods")


def test_what_may_have_been_done_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with answering(failure(503, "etcdserver: timed out"), (201, {})) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        with pytest.raises(Transient, match=r"create jobs/a: the API server answers 503: etcd"):
            client.create("jobs", {"metadata": {"name": "a"}})
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("status", "words"), [(429, "later"), (500, 'failed calling webhook "mjob.kb.io": reset')]
)
def test_what_was_not_taken_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, words: str
) -> None:
    monkeypatch.setattr(client_module, "FIRST_S", 10.0)
    made = (201, {"a": 1})
    with answering(failure(status, words), made) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        assert client.create("jobs", {"metadata": {"name": "a"}}) == {"a": 1}
    assert len(script.asked) == 2


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    client = connected(monkeypatch, kubeconfig(tmp_path, url))
    with pytest.raises(Transient, match=rf"list pods: no cluster answers at {url}: .*refused"):
        client.list("pods")


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = connected(monkeypatch, kubeconfig(tmp_path, "https://cluster.invalid:6443"))
    with pytest.raises(Transient, match=r"no cluster answers at https://cluster.invalid:6443"):
        client.list("pods")


def test_a_server_without_tls_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with answering((200, {})) as (url, _):
        file = kubeconfig(tmp_path, url.replace("http:", "https:"))
        with pytest.raises(Untrusted, match="no trusted connection") as caught:
            connected(monkeypatch, file).list("pods")
    assert "certificate-authority or server address" in caught.value.hint


def test_something_else_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with answering((200, "<html>log in</html>")) as (url, _):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        with pytest.raises(InfrastructureError, match="answers, but not as Kubernetes does"):
            client.list("pods")


def test_refused_credentials_are_loaded_anew_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with answering(failure(401, "Unauthorized"), (200, {"a": 1})) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        kubeconfig(tmp_path, url, user={"token": "fresh"})
        assert client.read("jobs", "a") == {"a": 1}
    assert [asked.token for asked in script.asked] == [TOKEN, "fresh"]
    with answering(failure(401, "Unauthorized")) as (url, script):
        client = connected(monkeypatch, kubeconfig(tmp_path, url))
        with pytest.raises(Unauthorized, match="does not accept the credentials") as caught:
            client.read("jobs", "a")
    assert (len(script.asked), TOKEN in str(caught.value)) == (2, False)


# -- errors in our words -------------------------------------------------------------------

ADA = 'User "ada" cannot create resource "jobs" in API group "batch" in the namespace "team"'
POD = (
    'pods is forbidden: User "system:serviceaccount:team:robot" cannot get resource "pods/exec" '
    'in API group "" in the namespace "team"'
)
NODES = 'nodes is forbidden: User "ada" cannot list resource "nodes" in API group "" at the cluster scope'


@pytest.mark.parametrize(
    ("status", "body", "kind", "words", "hint"),
    [
        (401, failure(401, "Unauthorized"), Unauthorized, "credentials", "kubectl auth whoami"),
        (
            403,
            failure(403, f"jobs.batch is forbidden: {ADA}"),
            Forbidden,
            "cannot try: ada may not create jobs in namespace team",
            "kubectl create rolebinding runner-ada -n team --role=runner-researcher --user=ada",
        ),
        (
            403,
            failure(403, POD),
            Forbidden,
            "may not get pods/exec",
            "rolebinding runner-robot -n team --role=runner-researcher --serviceaccount=team:robot",
        ),
        (403, failure(403, NODES), Forbidden, "list nodes in the whole cluster", "clusterrole"),
        (403, failure(403, NODES.replace("ada", "system:anonymous")), Unauthorized, "", "log in"),
        (
            403,
            failure(403, 'pods "x" is forbidden: exceeded quota: gpus, requested: 2, used: 7'),
            Refused,
            "exceeded quota: gpus",
            "kubectl describe resourcequota",
        ),
        (
            403,
            failure(403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'),
            Refused,
            "PodSecurity",
            "admin sets the level",
        ),
        (
            404,
            failure(404, 'namespaces "tem" not found', name="tem", kind="namespaces"),
            NoNamespace,
            "no namespace 'tem'",
            "kubernetes.namespace",
        ),
        (404, failure(404, 'secrets "x" not found', kind="secrets"), NotFound, "secrets", ""),
        (404, (404, "404 page not found"), NotFound, "404 page not found", ""),
        (409, failure(409, 'jobs "x" already exists'), Conflict, "already exists", "try again"),
        (413, failure(413, "too large"), Refused, "too large", "volume"),
        (422, failure(422, 'Job "x" is invalid: spec'), Refused, "is invalid", "render FILE"),
        (400, failure(400, "container x is not valid"), Refused, "container x is not valid", ""),
        (429, failure(429, "later"), NotTaken, "overloaded", ""),
        (500, failure(500, 'failed calling webhook "w"'), NotTaken, 'webhook "w"', "admin"),
    ],
)
def test_answers_in_our_words(
    status: int, body: Any, kind: type[RunnerError], words: str, hint: str
) -> None:
    content = body[1] if isinstance(body[1], str) else json.dumps(body[1])
    error = refusal("try", status, content)
    assert type(error) is kind
    assert error.message.startswith("cannot try: ")
    assert words in error.message
    assert hint in error.hint


def test_errors_are_cut() -> None:
    assert len(refusal("try", 500, "x" * 10_000).message) < 800
    assert len(untrusted("try", "", OSError("y" * 10_000)).message) < 800


def test_exit_statuses() -> None:
    """What the user can mend is 2, what the cluster has to mend is 3."""
    statuses = {kind.__name__: kind.exit_status for kind in (Unauthorized, Forbidden, Refused)}
    assert set(statuses.values()) == {2}
    assert {kind.exit_status for kind in (Transient, NotFound, Conflict, Untrusted)} == {3}
