"""The backends that the contract is tried on. A new one adds its name and how its lab is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moments import chance, pytest_generate_tests  # noqa: F401
from tiny_runs import Lab

BACKENDS = [
    "local",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("kubernetes", marks=pytest.mark.cluster),
]

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A namespace with the chart in it, on KUBECONFIG's cluster, and a researcher's kubeconfig."""
    import cluster_access

    with (
        cluster_access.connected(cluster_access.kubeconfig()) as api,
        cluster_access.namespace(api, "contract") as name,
    ):
        top = tmp_path_factory.mktemp("chart")
        cluster_access.install_chart(name, cluster_access.images(), top)
        yield name, cluster_access.account(api, name, cluster_access.RESEARCHER, top)


@pytest.fixture(params=BACKENDS, scope="module")
def make_lab(request: pytest.FixtureRequest) -> Iterator[MakeLab]:
    """Makes a place for runs on the backend."""
    if request.param == "local":
        yield lambda top, **settings: Lab(top, backend="local", **settings)
        return
    if request.param == "docker":
        from docker_lab import DockerLab

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOGNAME", f"worker-{os.getpid()}")
            yield DockerLab
        return
    from cluster_lab import ClusterLab

    from runner.backends.kubernetes.client import connect

    namespace, researcher = request.getfixturevalue("team")
    admin = connect(None, namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(researcher))
        yield lambda top, **settings: ClusterLab(top, namespace, admin, **settings)


@pytest.fixture
def lab(make_lab: MakeLab, tmp_path: Path) -> Iterator[Lab]:
    made = make_lab(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_lab(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One that the tests of a module share."""
    made = make_lab(tmp_path_factory.mktemp("module"))
    yield made
    made.close()
