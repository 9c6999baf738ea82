"""DockerBackend: a run as containers on this machine's engine."""

from __future__ import annotations

import contextlib
import os
import secrets as random_secrets
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import locks
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
from runner.backends.docker import explain
from runner.backends.docker.snapshot import Snapshot
from runner.backends.driven import as_driven, driven, tell
from runner.errors import RunnerError, RunNotFound, UsageError
from runner.names import is_run_id
from runner.phases import Phase
from runner.plan import RunPlan
from runner.record import Record, closing
from runner.record.copy import is_whole
from runner.record.run import RunState
from runner.record.store import find, runs
from runner.settings import Settings

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.backends.docker.snapshot import Container
    from runner.backends.mirror import Mirror
    from runner.config.experiment import Experiment
    from runner.session import Endpoint

NAME = explain.NAME
LOOK_S = 0.1
CANCELLED = "cancelled by the user"
STARTED, RESUMED = "started", "resumed in a new sandbox"
COLLECT_S = 300.0
"""For an agent that was told to end, to collect outputs and to complete the record."""
STARTING = ".starting.lock"
"""In the mirror: locked while a client starts the run."""
FORCE_S = 5
"""Between SIGTERM and SIGKILL, for a container that did not end when its agent was told."""
TOKEN_S = 10.0
"""How long a sandbox that has just been started may take to read its token."""
GONE_S = 30.0
"""How long a sandbox may take to end once its agent has."""


class DockerBackend:
    """Runs on a Docker engine: containers and volumes of each run's own, found by their labels.

    `runs/RUN` on this machine is a mirror of the record, which the agent writes to a volume.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_copy(update={"network": settings.network.over(os.environ)})
        self._records = Path(settings.runs).absolute()

    @cached_property
    def client(self) -> DockerClient:
        """The engine. Raises InfrastructureError where there is none, UsageError for a far one."""
        from runner.backends.docker.resolve import check_place
        from runner.images.engine import connected

        check_place()
        opened = contextlib.ExitStack()
        weakref.finalize(self, opened.close)
        return opened.enter_context(connected())

    # -- before and at the start -----------------------------------------------------------

    def resolve(
        self,
        experiment: Experiment,
        *,
        agent: bool,
        folders: Sequence[Path],
        file: str,
        progress: Progress,
    ) -> Resolved:
        """Refuse what this machine and its engine cannot do; look up image and packages."""
        from runner.backends.docker.resolve import resolve

        return resolve(
            self.client,
            self._settings,
            experiment,
            agent=agent,
            folders=folders,
            file=file,
            progress=progress,
        )

    def allowed(self, plan: RunPlan, *, folders: Sequence[Path], file: str) -> Resolved:
        """Refuse what this machine cannot do for a plan from a record."""
        from runner.backends.docker.resolve import allowed

        return allowed(self.client, self._settings, plan, folders=folders, file=file)

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Make the containers with their volumes and network, and start them."""
        with self._alone(plan.run_id):
            return self._start(plan, secrets, STARTED, new=True)

    def resume(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Go on with a run in new containers; its variables are gone, its outputs are not."""
        from runner.backends.docker.launch import remove

        handle = self.attach(plan.run_id)
        self.sync(handle)
        with self._alone(plan.run_id):
            snap = self._snapshot(plan.run_id)
            if snap.main is not None and snap.main.runs:
                raise UsageError(
                    f"run {plan.run_id} goes on already", hint=f"runner attach {plan.run_id}"
                )
            if explain.is_starting(snap, datetime.now(UTC)):
                raise _at_work(plan.run_id)
            remove(self.client, plan.run_id)
            # Whoever was killed as it started the run may have left a volume without a record.
            new = not self._has_record(plan.run_id)
            started = self._run(plan.run_id).attempts
            return self._start(plan, secrets, RESUMED if started else STARTED, new=new)

    def render(self, plan: RunPlan) -> Mapping[str, Any]:
        """The bodies of the requests by which `create` makes network and containers."""
        from runner.backends.docker import containers

        return {
            "network": containers.networks(plan),
            "containers": containers.containers(plan, self._settings),
        }

    @contextlib.contextmanager
    def _alone(self, run_id: str) -> Iterator[None]:
        """One client starts a run at a time: what another has made would be taken for leftovers."""
        fd = locks.hold(self._records / run_id / STARTING, 0.0)
        if fd is None:
            raise _at_work(run_id)
        try:
            yield
        finally:
            os.close(fd)

    def _start(
        self, plan: RunPlan, secrets: Mapping[str, str], reason: str, *, new: bool
    ) -> Handle:
        from runner.backends.docker import fetching, launch

        token = random_secrets.token_urlsafe(32)
        launch.start(
            self.client,
            plan,
            self._settings,
            fetching.messages(plan, secrets, token),
            record=self._records / plan.run_id if new else None,
            reason=reason,
        )
        return Handle(NAME, plan.run_id)

    # -- looking ---------------------------------------------------------------------------

    def attach(self, run_id: str) -> Handle:
        """Find a run again: by its mirror here, its containers or its record's volume."""
        if not is_run_id(run_id):
            raise RunNotFound(f"{run_id!r} is no run's id")
        if not self._here(run_id) and not self._snapshot(run_id).containers:
            self._fetched(run_id)
        return Handle(NAME, run_id)

    def sync(self, handle: Handle, *, patience_s: float | None = None) -> None:  # noqa: ARG002
        """Bring the mirror up to date; a run that ended without saying so is given its end."""
        from runner.backends.docker.launch import let_network_go

        run_id = handle.run_id
        if driven(self._run(run_id)):
            closing.render(Record.open(self._records / run_id))
            return
        snap = self._snapshot(run_id)
        over = snap.main is None or snap.main.over
        whole = self._here(run_id) and is_whole(self._records / run_id)
        if not (whole and over and explain.said_its_end(self._run(run_id), snap)):
            self._fetched(run_id)
        run = self._run(run_id)
        silent = run.plan.get("agent", True) and not explain.said_its_end(run, snap)
        end = explain.end_of(run, snap, ()) if silent else None
        if end and end.state != "interrupted":
            self._mirror(run_id).close(end.state, end.reason, end.exit_status)
        if snap.main is not None and snap.main.over and not snap.alive:
            let_network_go(self.client, run_id)

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
        """The runs that have containers or a mirror here, the newest first."""
        from runner.backends.docker.snapshot import snapshots

        snaps = snapshots(self.client)
        found = []
        for run_id in {path.name for path in runs(self._records)} | set(snaps):
            snap = snaps.get(run_id, Snapshot())
            run = self._run(run_id, snap)
            if run.backend == NAME:
                found.append(self._described(run, snap, ()))
        return selected(found, selector)

    def status(self, handle: Handle) -> Status:
        """How the run stands: its record as far as it is here, and what the engine says."""
        try:
            snap = self._snapshot(handle.run_id)
        except RunnerError:
            run = self._run(handle.run_id)
            if not run.is_over:
                raise
            return self._described(run, Snapshot(), ())  # the record says how it ended
        run = self._run(handle.run_id, snap)
        known = explain.has_phases(run, snap)  # then the engine need not be asked for a file
        return self._described(run, snap, () if known else self._phases(snap))

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[LogLine]:
        """What the containers printed; from the record where they are gone."""
        from runner.backends import recorded_logs
        from runner.backends.docker import container_logs

        snap = self._snapshot(handle.run_id)
        if snap.containers:
            yield from container_logs.read(self.client, snap, follow=follow)
            return
        self.sync(handle)
        yield from recorded_logs.read(self._records / handle.run_id / "logs")

    @contextlib.contextmanager
    def endpoint(self, handle: Handle) -> Iterator[Endpoint]:
        """The sandbox server's port, on this machine's loopback interface."""
        from runner.session import Endpoint

        snap = self._snapshot(handle.run_id)
        status = explain.describe(self._run(handle.run_id, snap), snap, ())
        sandbox = snap.get("sandbox")
        if not status.sandbox_alive or sandbox is None:
            raise no_sandbox(status.run)
        yield Endpoint(self._url(sandbox), self._token(sandbox))

    # -- ending ----------------------------------------------------------------------------

    def stop(self, handle: Handle, grace_s: float) -> None:
        """Tell the agent, which collects what was made; then end the containers, by force at last.

        An agent that was told has `COLLECT_S` at least.
        """
        ended = driven(self._run(handle.run_id)) and self._end_driven(handle, grace_s)
        self._stop(handle, grace_s)
        if ended:
            self.keep(handle)

    def _stop(self, handle: Handle, grace_s: float) -> None:
        run_id = handle.run_id
        snap = self._snapshot(run_id)
        if snap.main is None or snap.main.over:
            self._end(snap, grace_s)
            return
        if self._told(snap):
            self._until(
                run_id, lambda now: not now.main or not now.main.runs, max(grace_s, COLLECT_S)
            )
            self._end(self._snapshot(run_id).without("sandbox"), 0.0)  # what still prepares
            self._until(run_id, lambda now: not now.alive, GONE_S)
        snap = self._snapshot(run_id)
        self._end(snap, grace_s)
        with contextlib.suppress(RunNotFound):  # who submitted it has its record, and nobody else
            self.sync(handle)
        run = self._run(run_id, snap)
        if run.plan.get("agent", True) and not explain.said_its_end(run, snap):
            self._mirror(run_id).close("cancelled", CANCELLED, 130)

    def keep(self, handle: Handle) -> None:
        """Put the record into its volume, which is made for one that had no containers."""
        from runner.backends.docker.launch import make_record_volume

        make_record_volume(self.client, RunPlan.model_validate(self._run(handle.run_id).plan))
        self._mirror(handle.run_id).upload()

    def delete(self, handle: Handle) -> None:
        """Remove containers, volumes and network, ending the run first; the record stays."""
        from runner.backends.docker.launch import remove

        self.stop(handle, 0.0)
        remove(self.client, handle.run_id)

    def delete_record(self, handle: Handle) -> None:
        """Remove the record's volume, and its mirror here."""
        from runner.backends.docker.launch import remove

        remove(self.client, handle.run_id, record=True)
        shutil.rmtree(self._records / handle.run_id, ignore_errors=True)

    def _end_driven(self, handle: Handle, grace_s: float) -> bool:
        """Whether the script's run had to be ended here, and has its end now."""
        from runner.backends.ending import write_end

        record = Record.open(self._records / handle.run_id)
        told = tell(record, CANCELLED, grace_s)
        return told and write_end(record, lambda: self.endpoint(handle))

    def _told(self, snap: Snapshot) -> bool:
        """Whether the agent was told to end the run; one that has just begun finds it written."""
        from runner.backends.docker.exec import output
        from runner.backends.reach import COMMAND

        agent = snap.get("agent")
        if agent is None or not agent.runs:
            return False
        try:
            output(self.client, agent.id, [*COMMAND, "cancel", CANCELLED])
        except RunnerError:  # it has just ended: then by force
            return False
        return True

    def _end(self, snap: Snapshot, grace_s: float) -> None:
        """End every container that still runs; a sandbox that is alone has its time to leave."""
        from docker.errors import NotFound

        from runner.images.engine import translated

        for item in snap.containers:
            if item.runs:
                with translated(f"ending {item.step}"), contextlib.suppress(NotFound):
                    patience_s = max(FORCE_S, int(grace_s)) if item is snap.main else FORCE_S
                    self.client.api.stop(item.id, timeout=patience_s)

    def _until(self, run_id: str, true: Callable[[Snapshot], bool], deadline_s: float) -> None:
        """Wait for what the engine is to show, until the deadline."""
        end = time.monotonic() + deadline_s
        while not true(self._snapshot(run_id)) and time.monotonic() < end:
            time.sleep(LOOK_S)

    def _described(self, run: RunState, snap: Snapshot, phases: Sequence[Phase]) -> Status:
        return as_driven(explain.describe(run, snap, phases), self._records / run.run_id)

    # -- what the engine has ---------------------------------------------------------------

    def _snapshot(self, run_id: str) -> Snapshot:
        from runner.backends.docker.snapshot import snapshot

        return snapshot(self.client, run_id)

    def _phases(self, snap: Snapshot) -> tuple[Phase, ...]:
        """What the sandbox's containers have written down of their start."""
        from runner.backends.docker.files import read
        from runner.phases import parse_phases
        from runner.pod.layout import PHASES

        sandbox = snap.get("sandbox")
        data = read(self.client, sandbox.id, PHASES) if sandbox else None
        try:
            found = tuple(parse_phases((data or b"").decode()))
        except (ValueError, LookupError, TypeError):  # the sandbox's code can write there
            return ()
        told = (part for phase in found for part in (phase.name, phase.started, phase.detail))
        return found if all(isinstance(part, str) for part in told) else ()

    def _url(self, sandbox: Container) -> str:
        from runner.images.engine import translated
        from runner.pod.layout import PORT

        with translated("asking for the sandbox's port"):
            told = self.client.api.inspect_container(sandbox.id)["NetworkSettings"]
        published = (told["Ports"] or {}).get(f"{PORT}/tcp")
        if published:
            return f"http://127.0.0.1:{published[0]['HostPort']}"
        (network,) = told["Networks"].values()
        return f"http://{network['IPAddress']}:{PORT}"

    def _token(self, sandbox: Container) -> str:
        """The token of its server; it has it as soon as its client has told it."""
        from runner.backends.docker.exec import output
        from runner.backends.reach import ExecError
        from runner.pod.layout import TOKEN

        end = time.monotonic() + TOKEN_S
        while True:
            try:
                return output(self.client, sandbox.id, ["cat", str(TOKEN)]).decode()
            except ExecError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_S)

    def _has_record(self, run_id: str) -> bool:
        with contextlib.suppress(RunNotFound):
            self._mirror(run_id).sync()
            return True
        return False

    # -- the record here -------------------------------------------------------------------

    def _mirror(self, run_id: str) -> Mirror:
        from runner.backends.docker.reach import ContainerReach
        from runner.backends.mirror import Mirror

        return Mirror(ContainerReach(self.client, run_id), run_id, self._records / run_id)

    def _fetched(self, run_id: str) -> None:
        """Make the mirror what the record's volume has.

        Raises RunNotFound where it is neither there nor here.
        """
        try:
            self._mirror(run_id).sync()
        except RunNotFound:
            if not self._here(run_id):
                find(self._records, run_id)  # its error names the nearest
                raise

    def _here(self, run_id: str) -> bool:
        return (self._records / run_id / "transcript.jsonl").is_file()

    def _run(self, run_id: str, snap: Snapshot | None = None) -> RunState:
        """The record as far as it is here; out of the containers' labels where it is not."""
        if self._here(run_id):
            return Record.open(self._records / run_id).glance()
        if snap is not None and snap.containers:
            return explain.annotated(snap)
        return RunState(run_id=run_id, backend=NAME)


def _at_work(run_id: str) -> UsageError:
    return UsageError(
        f"another client starts {run_id} just now",
        hint=f"runner attach {run_id}; if that client was killed, try again in two minutes",
    )
