"""Who may what, tried for real: researchers, viewers, and the pods of runs. No ClusterRole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_access
import pytest
import yaml
from api_rights import Person, Resource, Right, resources
from cluster_access import CHART
from kubernetes.client import ApiClient
from tiny_runs import until

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
