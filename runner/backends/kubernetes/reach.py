"""How a run's pod, and the store of its record, are reached on a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from runner.backends.kubernetes import store_pod
from runner.backends.kubernetes.snapshot import pod_of
from runner.backends.reach import COMMAND, Agent

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.kubernetes.exec import Exec
    from runner.cluster import Cluster
    from runner.store.store import Store

AGENT = "agent"


class PodReach:
    """The ways to one run's record: its pods, S3, and pods that mount the claim."""

    store_name = "the cluster's record store"

    def __init__(
        self, client: Client, cluster: Cluster, run_id: str, patience_s: float | None = None
    ) -> None:
        """Nothing is reached yet; `patience_s` is how long a pod may take to start, if not long."""
        self._client, self._cluster, self._run_id = client, cluster, run_id
        self._patience_s = store_pod.START_S if patience_s is None else patience_s
        self._known_store: Store | None = None

    def agent(self, *, coming: bool = False) -> Agent | None:
        """The agent that runs now; with `coming` also one that may run any moment.

        The API server learns of a container's start a second or two after it.
        """
        labels = "app.kubernetes.io/name=runner,app.kubernetes.io/component=run"
        items = self._client.list("pods", labels=f"{labels},runner/run={self._run_id}")
        states = ("running", "waiting") if coming else ("running",)
        for pod in sorted(map(pod_of, items), key=lambda pod: pod.created, reverse=True):
            agent = pod.container(AGENT)
            there = pod.node and not pod.over and not pod.silent
            if agent is not None and agent.state in states and there:
                return Agent(pod.uid, pod.name, agent.state == "running")
        return None

    def in_agent(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        """Start a command in the agent's container of a pod."""
        return self._exec(place, AGENT, *words, stdin=stdin)

    def opened(self) -> AbstractContextManager[str]:
        """A pod that has the run's directory of the claim."""
        return store_pod.opened(self._client, self._cluster, self._run_id, self._patience_s)

    def in_store(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        """Start a command in such a pod."""
        return self._exec(place, store_pod.CONTAINER, *words, stdin=stdin)

    def store(self) -> Store | None:
        """The S3 store; None where records are on a claim."""
        if self._cluster.records.s3 is None:
            return None
        if self._known_store is None:
            from runner.backends.kubernetes.s3 import store_of

            self._known_store = store_of(self._client, self._cluster.records.s3, self._run_id)
        return self._known_store

    def _exec(self, pod: str, container: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        from runner.backends.kubernetes import exec as pod_exec

        return pod_exec.run(self._client, pod, container, [*COMMAND, *words], stdin)
