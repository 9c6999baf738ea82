"""The Kubernetes objects of a run: pure functions from frozen values to plain camelCase dicts.

No client here, and no value of a secret but the run's own token. Samples of all of them
are in k8s/, which is written anew by `python -m runner.backends.kubernetes.samples`.
"""

from runner.backends.kubernetes.manifests.job import job, released
from runner.backends.kubernetes.manifests.meta import (
    job_name,
    owner_label,
    owner_reference,
    record_url,
)
from runner.backends.kubernetes.manifests.objects import config_map, fits, secret
from runner.backends.kubernetes.manifests.probe import PROBE, probe_pods
from runner.backends.kubernetes.manifests.store import store_pod

__all__ = [
    "PROBE",
    "config_map",
    "fits",
    "job",
    "job_name",
    "owner_label",
    "owner_reference",
    "probe_pods",
    "record_url",
    "released",
    "secret",
    "store_pod",
]
