"""What the tests on a cluster share. A cluster that does not answer fails them: none is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_access
import pytest
from causes_seen import Causes
from command_line import CommandLine
from faulty_runs import Cluster
from kubernetes.client import ApiClient

from runner.backends.kubernetes.client import connect

Factory = pytest.TempPathFactory


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """Of the cluster that KUBECONFIG names."""
    return cluster_access.kubeconfig()


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[ApiClient]:
    """The official client, as the cluster's administrator."""
    with cluster_access.connected(kubeconfig) as client:
        yield client


@pytest.fixture(scope="module")
def namespace(api: ApiClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh one that enforces Pod Security "restricted", for the tests of a module."""
    with cluster_access.namespace(api, Path(request.path).stem.removeprefix("test_")) as name:
        yield name


@pytest.fixture(scope="module")
def apply(api: ApiClient, namespace: str) -> Callable[..., list[dict[str, Any]]]:
    """Make or change objects, given as dicts or YAML; what the API server made of them."""
    return lambda *objects: cluster_access.apply(api, namespace, *objects)


@pytest.fixture(scope="session")
def images() -> Path:
    """The runner's images are pushed: the chart's values that name them."""
    return cluster_access.images()


@pytest.fixture(scope="module")
def chart(namespace: str, images: Path, tmp_path_factory: Factory) -> str:
    """The chart's release in the module's namespace, ready for runs; the release's name."""
    return cluster_access.install_chart(namespace, images, tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def researcher(api: ApiClient, chart: str, namespace: str, tmp_path_factory: Factory) -> Path:
    """A kubeconfig of one who may there what the chart gives to researchers, and no more."""
    assert chart
    top = tmp_path_factory.mktemp("researcher")
    return cluster_access.account(api, namespace, cluster_access.RESEARCHER, top)


@pytest.fixture(scope="module")
def viewer(api: ApiClient, chart: str, namespace: str, tmp_path_factory: Factory) -> Path:
    """A kubeconfig of one who may only look there."""
    assert chart
    top = tmp_path_factory.mktemp("viewer")
    return cluster_access.account(api, namespace, cluster_access.VIEWER, top)


@pytest.fixture
def cluster(kubeconfig: Path, namespace: str, researcher: Path, tmp_path: Path) -> Cluster:
    """The module's namespace, as its admin has it; and a researcher's command line there."""
    assert kubeconfig
    named = {"RUNNER_BACKEND": "kubernetes", "RUNNER_KUBERNETES__NAMESPACE": namespace}
    line = CommandLine(tmp_path / "here", KUBECONFIG=str(researcher), **named)
    return Cluster(connect(None, namespace), line)


@pytest.fixture
def causes(cluster: Cluster) -> Causes:
    """What `status` says of each cause, held against docs/causes.json."""
    return Causes(cluster.client, cluster.line)


@pytest.fixture
def elsewhere(cluster: Cluster, tmp_path: Path) -> CommandLine:
    """Another directory, which knows of no run."""
    return cluster.line.there(tmp_path / "elsewhere")
