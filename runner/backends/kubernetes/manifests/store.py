"""A short-lived pod that gives a client access to one run's record on a claim."""

from __future__ import annotations

from typing import Any

from runner.backends.kubernetes.manifests.helper import helper, ours
from runner.backends.kubernetes.manifests.meta import STORE, labels
from runner.backends.kubernetes.manifests.volumes import record_claim, temporary
from runner.cluster import Cluster
from runner.errors import UsageError


def store_pod(run_id: str, cluster: Cluster, *, name: str, seconds: int) -> dict[str, Any]:
    """Holds one run's directory of the claim for `exec`; ends after `seconds` at the latest.

    It has no token and no secret. Raises UsageError where records are on no claim.
    """
    if cluster.records.claim is None:
        raise UsageError(
            "the cluster's settings name no claim for records",
            hint="an admin sets records.claim in the chart's values",
        )
    found = [record_claim(cluster.records.claim, run_id, ("store",)), temporary("store")]
    container = ours("store", ["hold"], found, cluster)
    marks = labels(run_id, STORE, cluster)
    return helper(name, marks, [container], found, cluster, seconds=seconds)
