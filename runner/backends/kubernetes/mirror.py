"""Mirror: the record on this machine, kept like the one in the cluster's store.

The store is reached where that is nearest: through the agent's container
while it runs, else S3 directly, else a pod that is made for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.kubernetes import store_pod
from runner.backends.kubernetes.follower import Follower
from runner.backends.kubernetes.snapshot import Pod, pod_of
from runner.errors import InfrastructureError, RunnerError, RunNotFound
from runner.record.closing import close as close_record
from runner.record.copy import RecordCopy
from runner.record.receiver import Receiver
from runner.record.travel import TRANSCRIPT, write_tar

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.kubernetes.exec import Exec
    from runner.cluster import Cluster
    from runner.store.store import Store

AGENT = "agent"
COMMAND = ("/opt/runner/bin/python", "-P", "-m", "runner.pod")
NO_RECORD = 4
"""Exit status of `runner.pod send` where there is no record."""
REASON_LENGTH = 2000
"""Characters: it is an argument of `exec`, which is a part of a URL."""
_CHUNK = 1 << 18


class Mirror:
    """One run's record here, in the directory `local`, which is made where it is missing."""

    def __init__(self, client: Client, cluster: Cluster, run_id: str, local: Path) -> None:
        """Nothing is reached yet."""
        self._client, self._cluster = client, cluster
        self._run_id, self._local = run_id, local
        self._pod: str | None = None
        self._known_store: Store | None = None

    def sync(self) -> None:
        """Bring what is here up to date.

        Raises RunNotFound where the store has no record of this run, and
        RunnerError where it cannot be reached.
        """
        agent = self.agent()
        if agent is not None:
            try:
                self._receive(agent.name, AGENT)
                return
            except RunNotFound:
                raise
            except RunnerError:
                pass  # it has just ended, perhaps: the store has the record as well
        if store := self._store():
            if not store.download(self._local):
                raise self._not_found()
            return
        with self.reached() as pod:
            self._receive(pod, store_pod.CONTAINER)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Keep what is here up to date while the context lasts, whatever connections do."""
        follower = Follower(self)
        follower.start()
        try:
            yield
        finally:
            follower.stop()

    def look(self) -> None:
        """Take over what is new in S3, where there is no agent to follow; else nothing."""
        if store := self._store():
            store.download(self._local, quick=True)

    def agent(self, *, coming: bool = False) -> Pod | None:
        """The pod whose agent runs now; with `coming` also one whose agent may run any moment.

        The API server learns of a container's start a second or two after it.
        """
        labels = "app.kubernetes.io/name=runner,app.kubernetes.io/component=run"
        items = self._client.list("pods", labels=f"{labels},runner/run={self._run_id}")
        states = ("running", "waiting") if coming else ("running",)
        for pod in sorted(map(pod_of, items), key=lambda pod: pod.created, reverse=True):
            agent = pod.container(AGENT)
            if agent is not None and agent.state in states and pod.node and not pod.over:
                return pod
        return None

    def stream(self, pod: str, receiver: Receiver, said: Iterable[bytes]) -> Exec:
        """Lines as the agent's container has them, for `receiver`; `said` keeps it going."""
        stdin = itertools.chain([_line(receiver.have())], said)
        return self._exec(pod, AGENT, "send", "--follow", stdin=stdin)

    def receiver(self) -> Receiver:
        """Writes a stream into the record here."""
        return Receiver(RecordCopy(self._local))

    def upload(self) -> None:
        """Put the record that is here into the store, which may have an older state of it.

        Raises RecordError where it has another.
        """
        if store := self._store():
            store.upload(self._local)
            return
        with self.reached() as pod, tempfile.TemporaryFile() as archive:
            write_tar(self._local, archive)
            archive.seek(0)
            chunks = iter(lambda: archive.read(_CHUNK), b"")
            self._told(pod, store_pod.CONTAINER, "receive", stdin=chunks)

    def close(self, state: str, reason: str, exit_status: int | None) -> None:
        """Write the end of a run that has not written it, in the store and here.

        One that never was in the store is put there. Does nothing where there
        is an end already.
        """
        with contextlib.nullcontext() if self._store() else self.reached():
            try:
                self.sync()
            except RunNotFound:
                if not (self._local / TRANSCRIPT).is_file():
                    raise
                self._bring()
            if store := self._store():
                close_record(self._local, state, reason, exit_status)
                store.upload(self._local)
                return
            status = "none" if exit_status is None else str(exit_status)
            with self.reached() as pod:
                words = [state, status, reason[:REASON_LENGTH]]
                self._told(pod, store_pod.CONTAINER, "close", *words)
                self._receive(pod, store_pod.CONTAINER)

    def _bring(self) -> None:
        try:
            self.upload()
        except RunnerError as error:
            # A client that ends the run at the same time may have brought it, and written its end.
            try:
                self.sync()
            except RunNotFound:
                raise error from None

    def delete(self) -> None:
        """Remove the record from the store; what is here stays."""
        if store := self._store():
            store.delete()
            return
        with self.reached() as pod:
            self._told(pod, store_pod.CONTAINER, "remove")

    @contextlib.contextmanager
    def reached(self) -> Iterator[str]:
        """A pod of the store for as long as the context lasts; inner ones share it."""
        if self._pod is not None:
            yield self._pod
            return
        with store_pod.opened(self._client, self._cluster, self._run_id) as pod:
            self._pod = pod
            try:
                yield pod
            finally:
                self._pod = None

    # -- ways to the store -----------------------------------------------------------------

    def _store(self) -> Store | None:
        """The S3 store; None where records are on a claim."""
        if self._cluster.records.s3 is None:
            return None
        if self._known_store is None:
            from runner.backends.kubernetes.s3 import store_of

            self._known_store = store_of(self._client, self._cluster.records.s3, self._run_id)
        return self._known_store

    def _receive(self, pod: str, container: str) -> None:
        receiver = Receiver(RecordCopy(self._local))
        have = [_line(receiver.have())]
        with self._not_found_told(), self._exec(pod, container, "send", stdin=have) as sent:
            receiver.take(sent)
        if not receiver.complete:
            raise InfrastructureError(
                f"the record of {self._run_id} did not come whole: the connection was cut",
                hint="what came is kept; the same command goes on from there",
            )

    @contextlib.contextmanager
    def _not_found_told(self) -> Iterator[None]:
        from runner.backends.kubernetes.exec import ExecError

        try:
            yield
        except ExecError as error:
            if error.code == NO_RECORD:
                raise self._not_found() from error
            raise

    def _told(
        self, pod: str, container: str, *words: str, stdin: Iterable[bytes] | None = None
    ) -> None:
        """Run a command to its end."""
        with self._exec(pod, container, *words, stdin=stdin) as ran:
            for _ in ran:
                pass

    def _exec(self, pod: str, container: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        from runner.backends.kubernetes import exec as pod_exec

        return pod_exec.run(self._client, pod, container, [*COMMAND, *words], stdin)

    def _not_found(self) -> RunNotFound:
        return RunNotFound(
            f"the cluster's record store has no run {self._run_id!r}",
            hint="`runner list` shows the runs; was it made on another cluster or namespace?",
        )


def _line(have: dict[str, Any]) -> bytes:
    return json.dumps(have).encode() + b"\n"
