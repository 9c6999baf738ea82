"""KubernetesBackend: a run as a Job, its pod the sandbox and the agent."""

from __future__ import annotations

import contextlib
import secrets as random_secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.base import (
    Handle,
    LogLine,
    Progress,
    Resolved,
    Selector,
    Status,
    no_sandbox,
    selected,
)
from runner.backends.driven import as_driven, driven, tell
from runner.backends.kubernetes import explain
from runner.backends.kubernetes.snapshot import Snapshot
from runner.backends.reach import COMMAND
from runner.errors import InfrastructureError, RunnerError, RunNotFound, UsageError
from runner.names import is_run_id
from runner.plan import RunPlan
from runner.record import Record, closing
from runner.record.copy import head_of, is_whole
from runner.record.run import RunState
from runner.record.store import find, runs
from runner.record.travel import pack
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.mirror import Mirror
    from runner.cluster import Cluster
    from runner.config.experiment import Experiment
    from runner.session import Endpoint

NAME = "kubernetes"
LOOK_S = 0.2
CANCELLED = "cancelled by the user"
STARTED, RESUMED = "started", "resumed in a new sandbox"
COLLECT_S = 300.0
"""For an agent that was told to end, to collect outputs and complete the record in its store."""
FORCE_S = 5
"""Between SIGTERM and SIGKILL, for an agent that did not end when it was told."""
GONE_S = 30.0
"""How long a pod that was told to end by force may take."""


class KubernetesBackend:
    """Runs on a cluster: a Job for each `submit` and `resume`, the record in the cluster's store.

    `runs/RUN` on this machine is a mirror of that record, made anew where it is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = Path(settings.runs).absolute()

    @cached_property
    def client(self) -> Client:
        """The API server, by the user's kubeconfig. Raises UsageError where there is none."""
        from runner.backends.kubernetes.client import connect

        own = self._settings.kubernetes
        return connect(context=own.context, namespace=own.namespace)

    @cached_property
    def cluster(self) -> Cluster:
        """What the lab's chart says of its cluster."""
        from runner.backends.kubernetes.resolve import load_cluster

        return load_cluster(self.client)

    # -- before and at the start -----------------------------------------------------------

    def resolve(
        self,
        experiment: Experiment,
        *,
        agent: bool,
        folders: Sequence[Path],  # noqa: ARG002 - secrets are in the cluster
        file: str,
        progress: Progress,
    ) -> Resolved:
        """Refuse what this cluster cannot do, and look up image and packages."""
        from runner.backends.kubernetes.resolve import resolve

        progress("asking the cluster")
        return resolve(
            self.client, self.cluster, experiment, agent=agent, file=file, progress=progress
        )

    def allowed(self, plan: RunPlan, *, folders: Sequence[Path], file: str) -> Resolved:  # noqa: ARG002
        """Refuse what this cluster cannot do for a plan from a record."""
        from runner.backends.kubernetes.resolve import allowed

        return allowed(self.client, self.cluster, plan, file=file)

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:  # noqa: ARG002
        """Make the Job, suspended, and what it needs; then release it."""
        return self._start(plan, 1, STARTED)

    def resume(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:  # noqa: ARG002
        """Go on with a run in a new pod; its variables are gone, its files and outputs are not."""
        handle = self.attach(plan.run_id)
        self.sync(handle)
        snap = self._snapshot(plan.run_id)
        if snap.alive:
            raise UsageError(
                f"run {plan.run_id} goes on already", hint=f"runner attach {plan.run_id}"
            )
        state = self._run(plan.run_id)
        number = max(snap.job.number if snap.job else 0, state.attempts) + 1
        if snap.job and snap.job.suspended:  # nobody is to release it beside the new one
            self.client.delete("jobs", snap.job.name)
        return self._start(plan, number, RESUMED if state.attempts else STARTED)

    def render(self, plan: RunPlan) -> Mapping[str, Any]:
        """The objects that `create` would make; the token, which is made then, is left out."""
        from runner.backends.kubernetes import manifests

        job = manifests.job(plan, self.cluster, 1)
        agent = self._agent(plan, STARTED)
        return {
            "manifests": [
                job,
                manifests.secret(plan, 1, None, ""),
                manifests.config_map(plan, 1, None, None, agent),
            ]
        }

    def _start(self, plan: RunPlan, number: int, reason: str) -> Handle:
        from runner.backends.kubernetes import manifests, objects

        # One that was never carried out is nowhere but here.
        new, agent = reason == STARTED, self._agent(plan, reason)
        if not manifests.fits(manifests.config_map(plan, number, None, None, agent)):
            raise UsageError(
                f"{len(plan.inputs)} files are too many to be copied in one by one",
                hint="put them into an archive, a repository or a volume",
            )
        travelling = pack(self._records / plan.run_id) if new else None
        made = self.client.create("jobs", manifests.job(plan, self.cluster, number))
        name = made["metadata"]["name"]
        try:
            owner = manifests.owner_reference(made)
            config_map = manifests.config_map(plan, number, owner, travelling, agent)
            if new and (travelling is None or not manifests.fits(config_map)):
                self._mirror(plan.run_id).upload()
                config_map = manifests.config_map(plan, number, owner, None, agent)
            token = random_secrets.token_urlsafe(32)
            objects.create_owned(
                self.client,
                secret=manifests.secret(plan, number, owner, token),
                config_map=config_map,
            )
            self.client.patch("jobs", name, manifests.released(self.cluster, plan))
            return Handle(NAME, plan.run_id, {"namespace": self.client.namespace})
        except BaseException as error:
            self._undo(name, error)
            raise

    def _undo(self, job: str, error: BaseException) -> None:
        """Remove a Job that was not started; where that fails too, the first error says so."""
        try:
            self.client.delete("jobs", job)
        except RunnerError:
            if isinstance(error, RunnerError):
                left = f"the Job {job} may be left: `runner doctor` finds it"
                error.hint = f"{error.hint}; {left}" if error.hint else left

    def _agent(self, plan: RunPlan, reason: str) -> dict[str, Any]:
        return {"reason": reason} if plan.agent else {}

    # -- looking ---------------------------------------------------------------------------

    def attach(self, run_id: str) -> Handle:
        """Find a run again: by its Job, by its mirror here, or in the cluster's record store."""
        handle = Handle(NAME, run_id, {"namespace": self.client.namespace})
        if not is_run_id(run_id):
            raise RunNotFound(f"{run_id!r} is no run's id")
        if (self._records / run_id / "transcript.jsonl").is_file():
            return handle
        if self._snapshot(run_id).job is None:
            self._fetched(run_id)
        return handle

    def sync(self, handle: Handle, *, patience_s: float | None = None) -> None:
        """Bring the mirror up to date; a run that ended without saying so is given its end."""
        if driven(self._run(handle.run_id)):
            closing.render(Record.open(self._records / handle.run_id))
            return
        snap = self._snapshot(handle.run_id)
        agent = snap.pod.container("agent") if snap.pod else None
        if self._here(handle.run_id):
            if snap.alive and (agent is None or agent.state == "waiting"):
                return  # nobody has begun to write
            path = self._records / handle.run_id
            said = explain.last_head(agent)
            if is_whole(path) and (snap.job is None or said == head_of(path)):
                return  # nothing was added since
        self._fetched(handle.run_id, patience_s)
        run = self._run(handle.run_id)
        end = explain.end_of(run, snap)
        if end is None or not run.plan.get("agent", True) or end.exit_status is None:
            return  # another pod, or another Job, may go on with it
        if not run.is_over or explain.newer(run, snap):
            self._mirror(handle.run_id).close(end.state, end.reason, end.exit_status)

    def bring_withheld(self, handle: Handle) -> None:
        """Bring outputs that were set aside into the mirror."""
        if driven(self._run(handle.run_id)):
            return
        self._mirror(handle.run_id).sync(withheld=True)

    @contextlib.contextmanager
    def following(self, handle: Handle) -> Iterator[None]:
        """Keep the mirror up to date while the context lasts."""
        if driven(self._run(handle.run_id)):
            yield
            return
        with self._mirror(handle.run_id).following():
            yield

    def list(self, selector: Selector) -> list[Status]:
        """The runs that have a Job or a mirror here, the newest first."""
        from runner.backends.kubernetes import objects

        labels = f"runner/sweep={selector.sweep}" if selector.sweep else ""
        snaps = objects.snapshots(self.client, labels)
        if not snaps:
            _ = self.cluster  # or the namespace is not there, which a list does not say
        names = {path.name for path in runs(self._records)} | set(snaps)
        found = []
        for run_id in names:
            snap = snaps.get(run_id, Snapshot())
            run = self._run(run_id, snap)
            if run.backend == NAME:
                found.append(self._described(run, snap))
        return selected(found, selector)

    def status(self, handle: Handle) -> Status:
        """How the run stands: its record as far as it is here, and what the cluster says."""
        try:
            snap = self._snapshot(handle.run_id)
        except RunnerError:
            run = self._run(handle.run_id)
            if not run.is_over or run.state == "interrupted":  # another pod may go on with it
                raise
            snap = Snapshot()  # the record says how it ended
        return self._described(self._run(handle.run_id, snap), snap)

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[LogLine]:
        """What the containers printed; from the record where the pod is gone."""
        from runner.backends import recorded_logs
        from runner.backends.kubernetes import pod_logs

        snap = self._snapshot(handle.run_id)
        if snap.pod is not None:
            yield from pod_logs.read(
                self.client, lambda: self._snapshot(handle.run_id), follow=follow
            )
            return
        self.sync(handle)
        yield from recorded_logs.read(self._records / handle.run_id / "logs")

    @contextlib.contextmanager
    def endpoint(self, handle: Handle) -> Iterator[Endpoint]:
        """A tunnel to the sandbox server's port, for as long as the context lasts."""
        from runner.backends.kubernetes import objects
        from runner.backends.kubernetes.tunnel import forward
        from runner.pod.layout import PORT
        from runner.session import Endpoint

        status = self.status(handle)
        if not status.sandbox_alive:
            raise no_sandbox(status.run)
        job = self._snapshot(handle.run_id).job
        token = objects.token(self.client, job.name if job else "")
        with forward(self.client, lambda: self._pod(handle.run_id), PORT) as port:
            yield Endpoint(f"http://127.0.0.1:{port}", token)

    # -- ending ----------------------------------------------------------------------------

    def stop(self, handle: Handle, grace_s: float) -> None:
        """Tell the agent, which collects what was made; else end the pod by force.

        An agent that was told has `COLLECT_S` at least. Raises InfrastructureError where the
        run was ended, but its record cannot be reached to say so.
        """
        ended = driven(self._run(handle.run_id)) and self._end_driven(handle, grace_s)
        self._stop(handle, grace_s)
        if ended:
            self.keep(handle)

    def _stop(self, handle: Handle, grace_s: float) -> None:
        from runner.backends.kubernetes import objects

        snap = self._snapshot(handle.run_id)
        if snap.job is None or snap.job.finished:
            return
        told = self._told(snap)
        if told:
            deadline_s = max(grace_s, COLLECT_S)
            self._until(handle.run_id, lambda now: not self._goes_on(now), deadline_s)
            snap = self._snapshot(handle.run_id)
        if snap.job is not None and self._goes_on(snap):
            self.client.patch("jobs", snap.job.name, explain.cancelled(CANCELLED))
            if told:  # it had its time
                objects.end_pods(self.client, handle.run_id, FORCE_S)
        leaves_s = (snap.pod.grace_s if snap.pod else 0.0) + GONE_S
        self._until(handle.run_id, lambda now: now.pod is None or now.pod.over, leaves_s)
        with contextlib.suppress(RunNotFound):  # who submitted it has its record, and nobody else
            self.sync(handle)
        snap = self._snapshot(handle.run_id)
        if snap.job is not None and snap.job.suspended and not snap.alive:
            # It would never finish, nor be removed; its end is in the record now.
            self.client.delete("jobs", snap.job.name)

    def keep(self, handle: Handle) -> None:
        """Put the record into the cluster's store."""
        self._mirror(handle.run_id).upload()

    def delete(self, handle: Handle) -> None:
        """Remove the run's Jobs and all that they own, ending it first; the record stays."""
        from runner.backends.kubernetes import objects

        # A record that cannot be reached, as on a claim that is unbound, must keep no Job.
        with contextlib.suppress(InfrastructureError, UsageError):
            self.stop(handle, 0.0)
        objects.delete_run(self.client, handle.run_id)

    def delete_record(self, handle: Handle) -> None:
        """Remove the record in the cluster's store, and its mirror here."""
        self._mirror(handle.run_id).delete()
        shutil.rmtree(self._records / handle.run_id, ignore_errors=True)

    def _end_driven(self, handle: Handle, grace_s: float) -> bool:
        """Whether the script's run had to be ended here, and has its end now."""
        from runner.backends.ending import write_end

        record = Record.open(self._records / handle.run_id)
        told = tell(record, CANCELLED, grace_s)
        return told and write_end(record, lambda: self.endpoint(handle))

    def _told(self, snap: Snapshot) -> bool:
        """Whether the agent was told to end the run; it is not there yet in a pod that starts."""
        from runner.backends.kubernetes import exec as pod_exec

        agent = snap.pod.container("agent") if snap.pod else None
        if snap.pod is None or agent is None or agent.state != "running":
            return False
        try:
            command = [*COMMAND, "cancel", CANCELLED]
            for _ in pod_exec.run(self.client, snap.pod.name, "agent", command, None):
                pass
        except RunnerError:  # it has just ended, or cannot be reached: then by force
            return False
        return True

    def _goes_on(self, snap: Snapshot) -> bool:
        held = snap.job is not None and snap.job.suspended and not snap.job.finished
        known = RunState(plan={"agent": bool(snap.pod and snap.pod.container("agent"))})
        return held or (snap.alive and explain.end_of(known, snap) is None)

    def _until(self, run_id: str, true: Callable[[Snapshot], bool], deadline_s: float) -> None:
        """Wait for what the cluster is to show, until the deadline."""
        end = time.monotonic() + deadline_s
        while not true(self._snapshot(run_id)) and time.monotonic() < end:
            time.sleep(LOOK_S)

    def _described(self, run: RunState, snap: Snapshot) -> Status:
        return as_driven(explain.describe(run, snap), self._records / run.run_id)

    # -- the record here -------------------------------------------------------------------

    def _snapshot(self, run_id: str) -> Snapshot:
        from runner.backends.kubernetes import objects

        return objects.snapshot(self.client, run_id)

    def _pod(self, run_id: str) -> str:
        """The pod that runs now; InfrastructureError while there is none."""
        pod = self._snapshot(run_id).pod
        sandbox = pod.container("sandbox") if pod else None
        if pod is None or pod.deleting or sandbox is None or sandbox.state != "running":
            raise InfrastructureError(f"the sandbox of {run_id} does not run now")
        return pod.name

    def _mirror(self, run_id: str, patience_s: float | None = None) -> Mirror:
        from runner.backends.kubernetes.reach import PodReach
        from runner.backends.mirror import Mirror

        reach = PodReach(self.client, self.cluster, run_id, patience_s)
        return Mirror(reach, run_id, self._records / run_id)

    def _fetched(self, run_id: str, patience_s: float | None = None) -> None:
        """Make the mirror what the store has; the record of a run that has not begun is not there.

        Raises RunNotFound where it is neither in the store nor here nor with the run's Job.
        """
        from runner.backends.kubernetes.travelling import bring

        try:
            self._mirror(run_id, patience_s).sync()
        except RunNotFound:
            if self._here(run_id):
                return
            job = self._snapshot(run_id).job
            if job is None:
                find(self._records, run_id)  # its error names the nearest
                raise
            bring(self.client, job, self._records / run_id)

    def _here(self, run_id: str) -> bool:
        return (self._records / run_id / "transcript.jsonl").is_file()

    def _run(self, run_id: str, snap: Snapshot | None = None) -> RunState:
        """The record as far as it is here; out of the Job's annotations where it is not."""
        if self._here(run_id):
            return Record.open(self._records / run_id).glance()
        job = snap.job if snap else None
        return explain.annotated(job) if job else RunState(run_id=run_id, backend=NAME)
