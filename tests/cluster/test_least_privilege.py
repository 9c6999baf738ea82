"""Who may what, tried for real: researchers, viewers, and the pods of runs. No ClusterRole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_access
import pytest
import yaml
from api_rights import Person, Resource, Right, resources
from causes_seen import Causes
from cluster_access import CHART
from command_line import CommandLine, Told
from faulty_runs import GPU, HELD, QUICK, Cluster, write
from kubernetes.client import ApiClient
from tiny_runs import cell, until

from runner.backends.kubernetes import exec as pod_exec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROLES: dict[str, list[dict[str, Any]]] = yaml.safe_load((CHART / "roles.yaml").read_text())
Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def chart(namespace: str, images: Path, tmp_path_factory: Factory) -> str:
    """Without the optional ClusterRole."""
    given = {"clusterRole": {"create": False}}
    return cluster_access.install_chart(namespace, images, tmp_path_factory.mktemp("chart"), given)


@pytest.fixture(scope="module")
def known(api: ApiClient) -> list[Resource]:
    """Every resource of this cluster's API."""
    return list(resources(Person(api)))


@pytest.fixture(scope="module")
def stranger(
    api: ApiClient, chart: str, namespace: str, tmp_path_factory: Factory
) -> Iterator[Person]:
    """Whom nothing was granted: what everybody may who can log in."""
    file = cluster_access.account(api, namespace, "stranger", tmp_path_factory.mktemp("stranger"))
    with cluster_access.connected(file) as client:
        yield Person(client)


def granted(*names: str) -> set[Right]:
    """By the chart's roles.yaml, whatever the name of an object."""
    return {
        (verb, f"{resource}.{group}" if group else resource)
        for name in names
        for rule in ROLES[name]
        if "resourceNames" not in rule
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("role", ["researcher", "viewer"])
def test_what_is_granted_works_and_nothing_else(
    role: str,
    request: pytest.FixtureRequest,
    namespace: str,
    known: list[Resource],
    stranger: Person,
) -> None:
    """Every verb of every resource, here, in another namespace, and in the whole cluster."""
    rules = granted(*{"researcher": ("researcher", "viewer"), "viewer": ("viewer",)}[role])
    assert {resource for _, resource in rules} <= {str(one) for one in known}
    spaced = [one for one in known if one.namespaced or one.name.startswith("namespaces")]
    everybodys = stranger.rights(known, None)
    assert all(resource.startswith("selfsubject") for _, resource in everybodys)
    with cluster_access.connected(request.getfixturevalue(role)) as client:
        person = Person(client)
        until(lambda: person.may(known_as(known, "pods"), "list", namespace), "the Role is bound")
        # Listing and making namespaces is not of one namespace.
        beyond = {("list", "namespaces"), ("watch", "namespaces"), ("create", "namespaces")}
        assert person.rights(spaced, namespace) - beyond == rules
        assert person.rights(spaced, "default") == set()
        assert person.rights(known, None) == everybodys
        secret = known_as(known, "secrets")
        for name in ("runner-secrets", "sh.helm.release.v1.runner.v1", "runner-other"):
            may = role == "researcher" and name == "runner-secrets"
            assert person.may(secret, "patch", namespace, name) == may
        status, _ = person.ask("GET", "/api/v1/nodes", **{"Impersonate-User": "admin"})
        assert status == 403


def known_as(known: list[Resource], name: str) -> Resource:
    [found] = [one for one in known if str(one) == name]
    return found


def test_with_the_cluster_role(
    api: ApiClient,
    images: Path,
    known: list[Resource],
    stranger: Person,
    tmp_path: Path,
) -> None:
    """It shows what it says, and nothing is to be changed by it."""
    with cluster_access.namespace(api, "wide") as space:
        for more in ({}, {"pods": True}):
            given = {"clusterRole": {"create": True, **more}}
            cluster_access.install_chart(space, images, tmp_path, given)
            file = tmp_path / f"{cluster_access.VIEWER}.kubeconfig"
            if not file.exists():
                cluster_access.account(api, space, cluster_access.VIEWER, tmp_path)
            rules = granted("cluster", *(["pods"] if more else []))
            [awaited] = [("list", "pods")] if more else [("list", "nodes")]
            with cluster_access.connected(file) as client:
                person = Person(client)
                until(
                    lambda person=person, awaited=awaited: person.may(
                        known_as(known, awaited[1]), awaited[0], None
                    ),
                    "the ClusterRole is bound",
                )
                everybodys = stranger.rights(known, None)
                assert person.rights(known, None) == everybodys | rules


# -- a viewer --------------------------------------------------------------------------------


@pytest.fixture
def looking(viewer: Path, cluster: Cluster, tmp_path: Path) -> CommandLine:
    """A viewer's command line, in a directory that knows of no run."""
    return cluster.line.but(KUBECONFIG=str(viewer)).there(tmp_path / "looking")


def test_a_viewer_looks(cluster: Cluster, looking: CommandLine, causes: Causes) -> None:
    with cluster.submitted(write(cluster.line, HELD)) as (submit, name):
        submit.said("cell 1")
        [listed] = [json.loads(line) for line in looking("list", "--json").out.splitlines()]
        # What the record says is not for viewers; the cluster alone does not know more.
        assert (listed["run_id"], listed["state"]) == (name, "starting")
        told = looking("status", name)
        assert (told.status, "starting" in told.out) == (0, True), told
        assert "without its record" in told.err, told
        told = looking("logs", name, "--processes")
        assert (told.status, "sandbox" in told.out, "agent" in told.out) == (0, True, True), told
        refused(looking("logs", name), f"runner logs {name} --processes")
        refused(looking("exec", name, "--", "id"))
        refused(looking("fetch", name))
        refused(looking("cancel", name))
        refused(looking("delete", name, "--force", "--yes"))
        assert "you may not read these Secrets" in looking("secrets", "list").err
        told = looking("submit", write(looking, QUICK))
        refused(told, "create jobs.batch")
        causes.told("the Role does not allow it", told.status, told.err)
        told = looking("doctor", "--probe")
        assert "may not create pods" in told.out, told
        assert "may not create jobs.batch" in told.words, told
        assert "--role runner-researcher" in told.words, told
        assert cluster.line("exec", name, "--", "touch", "go").status == 0
        assert submit.end().status == 0
    assert cluster.line("delete", name, "--yes").status == 0


def refused(told: Told, words: str = "") -> None:
    """In words, with what to do, and nothing was done."""
    assert told.status in (2, 3), told
    assert "may not" in told.err, told
    assert words in told.err, told
    assert "rolebinding" in told.err, told
    assert "Traceback" not in told.words, told


# -- a researcher without the ClusterRole ----------------------------------------------------


def test_a_run_with_a_gpu(cluster: Cluster) -> None:
    told = cluster.line("submit", write(cluster.line, QUICK, GPU))
    assert told.status == 0, told
    name = json.loads(cluster.line("list", "--json").out.splitlines()[0])["run_id"]
    assert cluster.line("verify", name).status == 0
    assert cluster.line("delete", name, "--yes").status == 0


def test_a_gpu_that_is_not_there_is_told_in_the_schedulers_words(cluster: Cluster) -> None:
    file = write(cluster.line, QUICK, '[sandbox]\ngpu = ["T4"]\n')
    with cluster.submitted(file, "--detach") as (submit, name):
        assert submit.end().status == 0

    def says() -> bool:
        status = cluster.line("status", name, "--json").data
        return "didn't match Pod's node affinity/selector" in status["reason"]

    until(says, "the scheduler's own words")
    assert cluster.line("cancel", name).status == 0
    assert cluster.line("delete", name, "--yes").status == 0


def test_doctor_says_what_it_cannot_know(cluster: Cluster) -> None:
    told = cluster.line("doctor", "--json")
    assert told.status == 0, told
    checks = {one["name"]: one for one in map(json.loads, told.out.splitlines())}
    assert checks["rights"]["ok"]
    assert checks["gpus"]["ok"] is None
    assert "nodes may not be read here" in checks["gpus"]["found"]
    assert checks["gpus"]["mend"].endswith("--set 'clusterRole.create=true'")


# -- the pods of a run -----------------------------------------------------------------------

ASK = """
import json, os, pathlib, ssl, urllib.error, urllib.request
place = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
trust = ssl._create_unverified_context()
try:
    urllib.request.urlopen(f"{place}/api/v1/namespaces/NAMESPACE/secrets", context=trust, timeout=10)
    said = "an answer"
except urllib.error.HTTPError as error:
    said = f"{error.code}: {json.loads(error.read())['message']}"
there = pathlib.Path("/var/run/secrets/kubernetes.io").exists()
print(f"token {there}; {said}")
"""


def test_pods_have_no_token(cluster: Cluster) -> None:
    """The sandbox and the agent; the chart of the tests lets them reach the API server."""
    steps = [cell(ASK.replace("NAMESPACE", cluster.client.namespace)), *HELD]
    with cluster.submitted(write(cluster.line, steps)) as (submit, name):
        said = submit.said(r"token \w+; .*")[0]
        assert said.startswith("token False; 403")
        assert "system:anonymous" in said
        submit.said("cell 2")
        pod = cluster.snapshot(name).pod
        assert pod is not None
        found = cluster.client.read("pods", pod.name)["spec"]
        assert found["automountServiceAccountToken"] is False
        look = ["sh", "-c", "ls /var/run/secrets/kubernetes.io 2>&1; true"]
        for container in ("agent", "sandbox"):
            out = b"".join(pod_exec.run(cluster.client, pod.name, container, look))
            assert b"No such file" in out
        assert cluster.line("exec", name, "--", "touch", "go").status == 0
        assert submit.end().status == 0
    assert cluster.line("delete", name, "--yes").status == 0


def test_the_account_of_pods_may_nothing(
    api: ApiClient, chart: str, namespace: str, known: list[Resource], tmp_path: Path
) -> None:
    """Were there a token of it."""
    file = cluster_access.access(api, namespace, "runner-pod", tmp_path)
    spaced = [one for one in known if one.namespaced]
    with cluster_access.connected(file) as client:
        assert Person(client).rights(spaced, namespace) == set()
