"""LocalBackend: a run as two processes of this machine."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
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
    alone,
    no_sandbox,
    selected,
)
from runner.backends.driven import driven, tell
from runner.backends.local.handle import NAME, read_handle
from runner.backends.local.paths import Paths
from runner.backends.local.view import describe
from runner.errors import InfrastructureError, RunnerError, RunNotFound
from runner.names import is_run_id
from runner.phases import read_phases
from runner.record import Record, closing
from runner.record.store import find, runs

if TYPE_CHECKING:  # and below where it is used: a list of runs needs no plan, and no httpx
    from runner.config.experiment import Experiment
    from runner.plan import RunPlan
    from runner.session import Endpoint
    from runner.settings import Settings

NOT_ISOLATED = (
    "local does not isolate: the agent's code runs as you, with your files and your network"
)
LOOK_S = 0.2


class LocalBackend:
    """Runs on this machine: one process group for the sandbox, one for the agent."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = Path(settings.runs).absolute()
        self._state = settings.state_dir
        self._volumes = settings.volumes

    def resolve(
        self,
        experiment: Experiment,
        *,
        agent: bool,
        folders: Sequence[Path],
        file: str,
        progress: Progress,
    ) -> Resolved:
        """Refuse what this machine cannot do, and look up GPUs, secrets and packages."""
        from runner.backends.local.resolve import resolve

        return resolve(
            experiment, self._settings, agent=agent, folders=folders, file=file, progress=progress
        )

    def allowed(self, plan: RunPlan, *, folders: Sequence[Path], file: str) -> Resolved:
        """Refuse what this machine cannot do for a plan from a record."""
        from runner.backends.local.resolve import allowed

        return allowed(
            plan.experiment,
            self._settings,
            names=plan.secrets,
            python=plan.python,
            pins=plan.packages,
            folders=folders,
            file=file,
        )

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Start the sandbox, and the agent if the plan has one."""
        from runner.backends.local import launch

        paths, record = self._paths(plan.run_id), self._record(plan.run_id)
        return launch.create(plan, secrets, paths, record, self._volumes)

    def render(self, plan: RunPlan) -> Mapping[str, Any]:
        """The two processes that `create` would start."""
        from runner.backends.local import commands

        return commands.rendered(plan, self._paths(plan.run_id))

    def resume(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Go on with a run: in its sandbox if that lives, else in a new one with what was kept."""
        from runner.backends.local import launch

        paths, record = self._paths(plan.run_id), self._record(plan.run_id)
        return launch.resume(plan, secrets, paths, record, self._volumes)

    def attach(self, run_id: str) -> Handle:
        """Find a run again; one whose sandbox is gone has its record still."""
        data = read_handle(self._paths(run_id))
        if not data:
            self._record(run_id)
        return Handle(NAME, run_id, data)

    def sync(self, handle: Handle, *, patience_s: float | None = None) -> None:  # noqa: ARG002
        """Finish what a killed agent left of the record, which the run writes here itself."""
        record = self._record(handle.run_id)
        if record.glance().backend == NAME:
            closing.render(record)

    def bring_withheld(self, handle: Handle) -> None:
        """Nothing: they are in the record here."""

    def following(self, handle: Handle) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Nothing: the run writes its record here."""
        return contextlib.nullcontext()

    def list(self, selector: Selector) -> list[Status]:
        """The runs whose records are in the record store, the newest first."""
        found = []
        for path in runs(self._records):
            try:
                found.append(self.status(Handle(NAME, path.name, {})))
            except RunnerError:  # a record that is no record; `verify` tells of it
                continue
        return selected(found, selector)

    def status(self, handle: Handle) -> Status:
        """How the run stands: the record's state, checked against the processes."""
        record, paths = self._record(handle.run_id), self._paths(handle.run_id)
        agent, sandbox = record.alive(), locks.is_held(paths.lock)
        # After the look at the lock: an agent that has let go of it has written its end before.
        run = record.glance()
        if not agent and not run.is_over:  # or was killed before run.json had it
            run = record.state()
        return describe(run, read_phases(paths.phases), agent=agent, sandbox=sandbox)

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[LogLine]:
        """What installing, the sandbox and the agent printed."""
        record, paths = self._record(handle.run_id), self._paths(handle.run_id)
        files = {
            "prepare": paths.install_log,
            "sandbox": record.path / "logs" / "sandbox.log",
            "agent": record.path / "logs" / "agent.log",
        }
        ends = dict.fromkeys(files, 0)
        while True:
            alive = record.alive() or locks.is_held(paths.lock)
            for source, file in files.items():
                with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
                    lines.seek(ends[source])
                    for line in lines:
                        if not line.endswith(b"\n") and follow and alive:
                            break
                        ends[source] += len(line)
                        yield LogLine(source, line.decode("utf-8", "replace").rstrip("\n"))
            if not (follow and alive):
                return
            time.sleep(LOOK_S)

    @contextlib.contextmanager
    def endpoint(self, handle: Handle) -> Iterator[Endpoint]:
        """The sandbox server's loopback port."""
        from runner.session import Endpoint

        paths, url = self._paths(handle.run_id), self.attach(handle.run_id).data.get("url")
        if not url or not locks.is_held(paths.lock):
            raise no_sandbox(self._record(handle.run_id).glance())
        yield Endpoint(url, paths.token.read_text())

    def stop(self, handle: Handle, grace_s: float) -> None:
        """End the agent, which collects what was made; then the sandbox; by force at last."""
        from runner.backends.ending import REASON, write_end
        from runner.backends.local import ending

        paths, record = self._paths(handle.run_id), self._record(handle.run_id)
        words = ""
        # The process of a script is the user's own: it is told, and ends its sandbox itself.
        if driven(record.state()):
            tell(record, REASON, grace_s)
        else:
            words = ending.end_agent(paths, record, grace_s)
        run = record.state()
        if not (record.alive() or alone(run)) and (not run.is_over or run.state == "interrupted"):
            there = locks.is_held(paths.lock)
            write_end(record, (lambda: self.endpoint(handle)) if there else None, words)
        ending.end_sandbox(paths)

    def keep(self, handle: Handle) -> None:
        """Nothing: the record is here."""

    def delete(self, handle: Handle) -> None:
        """Remove the sandbox's directory, ending the run first; the record stays."""
        from runner.backends.local import directory, ending

        paths = self._paths(handle.run_id)
        try:
            self.stop(handle, ending.KILL_GRACE_S)
        except RunNotFound:  # somebody removed the record: what else there is goes all the same
            if not paths.root.is_dir():
                raise
            ending.end_sandbox(paths)
        directory.remove(paths)

    def delete_record(self, handle: Handle) -> None:
        """Remove the record's directory."""
        path = self._record(handle.run_id).path
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise InfrastructureError(f"{path}: cannot be removed whole: {error}") from error

    def _paths(self, run_id: str) -> Paths:
        if not is_run_id(run_id):
            raise RunNotFound(f"{run_id!r} is no run's id")
        return Paths(self._state / run_id)

    def _record(self, run_id: str) -> Record:
        path = self._records / run_id
        if not is_run_id(run_id) or not (path / "transcript.jsonl").is_file():
            path = find(self._records, run_id)  # its error names the nearest
        return Record.open(path)
