"""What `doctor` looks at on a cluster, in its order. Nothing is changed but by a probe."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.cli.check import Check
from runner.cli.words import count, seconds
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.kubernetes.backend import KubernetesBackend
    from runner.backends.kubernetes.client import Client
    from runner.cli.context import Cli
    from runner.cluster import Cluster

LEAST_MINOR = 29
"""Of Kubernetes 1.x: native sidecars are on by default from 1.29."""
MOST_SKEW_S = 5.0
"""What the API server says of its clock is rounded to a second, and is some time on its way."""


def cluster_checks(backend: KubernetesBackend, cli: Cli, *, probe: bool) -> Iterator[Check]:
    """Every check; ends early where the next ones would only say the same again."""
    from runner.cli import cluster_kept, cluster_probe, cluster_room

    try:
        client = backend.client
        yield _version(client)
        yield skew(client.clock(), datetime.now(UTC))
        cluster = backend.cluster
    except RunnerError as error:
        yield Check("cluster", False, error.message, error.hint)
        return
    words = f"namespace {client.namespace}, chart {cluster.chart_version or 'of unknown version'}"
    yield Check("chart", True, f"{words}, {count(len(cluster.images.catalogue), 'image')}")
    for look in (_rights, cluster_room.gpus, cluster_room.bounds, cluster_room.queue):
        yield from _each(look(client, cluster), look.__name__)
    for look in (cluster_kept.storage, cluster_kept.named, cluster_kept.secrets):
        yield from _each(look(client, cluster), look.__name__)
    if probe:
        yield from cluster_probe.checks(client, cluster, cli)
    else:
        words = "not tried: whether images can be pulled, and network policies are enforced"
        yield Check("probe", None, words, "runner doctor --backend kubernetes --probe")
    yield from _each(cluster_kept.leftovers(client), "leftovers")


def _each(checks: Iterator[Check], name: str) -> Iterator[Check]:
    """All of them; what cannot be looked at is told, and does not end the others."""
    try:
        yield from checks
    except RunnerError as error:
        yield Check(name.strip("_"), None, error.message, error.hint)


def _version(client: Client) -> Check:
    from runner.backends.kubernetes.objects import version

    major, minor = version(client)
    words = f"Kubernetes {major}.{minor} at {client.access.server}"
    if (major, minor) < (1, LEAST_MINOR):
        mend = f"a cluster of 1.{LEAST_MINOR} or later: the sandbox is a native sidecar"
        return Check("cluster", False, words, mend)
    return Check("cluster", True, words)


def skew(there: datetime, here: datetime) -> Check:
    """How far this machine's clock is from the API server's."""
    ahead = (here - there).total_seconds()
    if abs(ahead) <= MOST_SKEW_S:
        return Check("clock", True, "as the API server's")
    which = "ahead of" if ahead > 0 else "behind"
    words = (
        f"{seconds(abs(ahead))} {which} the API server's: times in `list` and `status` are off by "
        "that, and tokens and S3's signatures may be refused"
    )
    return Check("clock", None, words, "sudo timedatectl set-ntp true, here or on the server")


def _rights(client: Client, cluster: Cluster) -> Iterator[Check]:
    """Whether the user may start runs and follow them."""
    from runner.backends.kubernetes.resolve import missing_rights

    if error := missing_rights(client, cluster):
        yield Check("rights", False, error.message, error.hint)
    else:
        yield Check("rights", True, "you may start runs and follow them")
