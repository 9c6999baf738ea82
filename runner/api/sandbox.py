"""Sandbox: what a script starts, uses and ends."""

from __future__ import annotations

import atexit
import posixpath
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from runner.api import snapshots
from runner.api.driven import DrivenRun, chosen, outcome_of, script_name
from runner.api.files import bytes_of
from runner.api.guest import GuestRun, not_driven
from runner.api.snapshots import Snapshot
from runner.backends import backend_of
from runner.backends.driven import driven
from runner.config.experiment import Experiment
from runner.config.explain import config_error
from runner.config.sandbox import SandboxConfig
from runner.errors import OperationError, UsageError
from runner.names import slug
from runner.plan import RunPlan
from runner.secrets import SecretValues
from runner.session import LostOperation, Result, Session
from runner.settings import load_settings
from runner.submission import Submission, from_experiment

TIMEOUT_S = 600.0
"""How long a command or cell is waited for, if nobody says."""


class Failed(OperationError):
    """A command or a cell did not end well; `result` has what it printed."""

    exit_status = 1

    def __init__(self, what: str, result: Result) -> None:
        how = f"exit status {result.exit}" if result.exit is not None else result.state
        if not result.final:
            how = f"still {result.state}"
        words = f": {result.reason}" if result.reason else ""
        super().__init__(f"{what}: {how}{words}\n{result.text.strip()[-2000:]}".rstrip())
        self.result = result


class Sandbox:
    """A place where code runs, with a record of all that ran there.

    A context manager: it is started at the beginning and ended at the end. `name` is the run's;
    the script's own if left out. `backend` and `runs` win over the settings.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        name: str | None = None,
        backend: str | None = None,
        runs: str | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self._name = name
        self._settings = load_settings(**chosen(backend=backend, runs=runs))
        self._run: DrivenRun | GuestRun | None = None
        self._snapshot: Snapshot | None = None

    @classmethod
    def from_id(cls, run_id: str, *, backend: str | None = None, runs: str | None = None) -> Self:
        """A sandbox that lives, by the id of its run.

        One whose script is gone is taken over: its record goes on here. In one that an agent or
        another script drives this is a guest, whose cells and files are in that run's record:
        leaving it ends nothing, `terminate` cancels the run. Raises RunNotFound, and
        InfrastructureError for a sandbox that has ended.
        """
        settings = load_settings(**chosen(backend=backend, runs=runs))
        there = backend_of(settings)
        handle = there.attach(run_id)
        status = there.status(handle)
        run: DrivenRun | GuestRun
        if driven(status.run) and status.sandbox_alive and not status.agent_alive:
            # The sandbox knows its secrets, and masks them.
            submission = Submission(RunPlan.model_validate(status.run.plan), SecretValues(), {})
            run = DrivenRun.take_over(submission, settings, there, script_name())
        else:
            run = GuestRun(settings, there, handle, status)
        sandbox = cls(run.plan.experiment.sandbox, backend=backend, runs=runs)
        sandbox._run = run
        if isinstance(run, DrivenRun):
            atexit.register(sandbox._leave)
        return sandbox

    @classmethod
    def from_snapshot(
        cls,
        snapshot: Snapshot | str,
        config: SandboxConfig | None = None,
        *,
        name: str | None = None,
        backend: str | None = None,
        runs: str | None = None,
    ) -> Self:
        """One that has, when it is started, the files and Python packages of a snapshot.

        What else it is like is as it was, with repos and models at their commits, or as `config`
        says. Raises UsageError for what is no snapshot, and RunNotFound.
        """
        settings = load_settings(**chosen(backend=backend, runs=runs))
        found, plan = snapshots.find(snapshot, settings)
        config = snapshots.with_packages(config or snapshots.config_of(plan), plan)
        sandbox = cls(config, name=name, backend=backend, runs=runs)
        sandbox._snapshot = found
        return sandbox

    def start(self) -> Self:
        """Start it, and wait until its kernel is ready.

        Raises UsageError and ConfigError for what can be mended before anything starts, and
        InfrastructureError where it does not come up: then nothing of it is left but its record.
        """
        if self._run is not None:
            raise UsageError(f"this sandbox was started already: run {self.run_id}")
        script = script_name()
        experiment = _experiment(
            self._name or slug(Path(script).stem) or "sandbox", script, self.config
        )
        submission = from_experiment(
            experiment, self._settings, Path(sys.argv[0]).parent, script, agent=False
        )
        backend = backend_of(self._settings)
        self._run = DrivenRun.begin(submission, self._settings, backend, script)
        # A script that forgets to end it does not leave it behind.
        atexit.register(self._leave)
        if self._snapshot is not None:
            try:
                snapshots.restore(self.session, self._snapshot, self.driven.plan)
            except BaseException as error:
                self._end(error)
                raise
        return self

    def terminate(self) -> None:
        """Collect what was made, and end it. In a `finally` the record says what was raised.

        A second call does nothing. A run that somebody else drives is cancelled.
        """
        if isinstance(self._run, GuestRun):
            self._run.end()
        self._end(sys.exc_info()[1])

    def snapshot(self) -> Snapshot:
        """Keep what is in the workspace, and which Python packages are installed.

        A snapshot is a record of its own, where the backend keeps records. It does not have the
        kernel's memory: `Snapshot.without` says what else. Raises UsageError while a cell or
        command runs.
        """
        return snapshots.take(self.session, self.run.plan, self._settings)

    def __enter__(self) -> Self:
        return self if self._run else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end(error)

    def _leave(self) -> None:
        """End it when Python leaves, by an exception that nobody caught or without one."""
        self._end(getattr(sys, "last_value", None))

    def _end(self, error: BaseException | None) -> None:
        if isinstance(self._run, GuestRun):
            self._run.leave()
        elif self._run is not None:
            self._run.end(outcome_of(error))
            atexit.unregister(self._leave)

    @property
    def run(self) -> DrivenRun | GuestRun:
        """Its run; UsageError before `start`."""
        if self._run is None:
            raise UsageError("this sandbox was not started: call `start()`")
        return self._run

    @property
    def driven(self) -> DrivenRun:
        """Its run, of which this script is the writer; UsageError for a guest's."""
        if isinstance(run := self.run, GuestRun):
            raise not_driven(run)
        return run

    @property
    def session(self) -> Session:
        """The client of its server; UsageError when it has ended."""
        return self.run.answering

    @property
    def run_id(self) -> str:
        """The run's id: `runner list`, `status`, `fetch` know it by this."""
        return self.run.plan.run_id

    @property
    def record(self) -> Path:
        """The directory of its record."""
        return self.run.path

    @property
    def jupyter_url(self) -> str:
        """The address of the live page, which lets one browser in, for a minute."""
        return self.session.ticket()

    def exec(self, command: str, timeout: float = TIMEOUT_S, *, check: bool = True) -> Result:
        """Run a shell command in the workspace; `str()` of the result is what it printed.

        Raises Failed where it does not end with status 0 within `timeout` seconds, unless `check`
        is false.
        """
        with heeding(self.session) as session:
            result = session.shell(command, timeout_s=timeout)
        return checked(f"`{command.strip().partition(chr(10))[0][:80]}`", result, check=check)

    def exec_python(self, code: str, timeout: float = TIMEOUT_S, *, check: bool = True) -> Result:
        """Run code in a Python process of its own, with the kernel's packages; as `exec`."""
        with heeding(self.session) as session:
            result = session.shell(f"python -c {shlex.quote(code)}", timeout_s=timeout)
        return checked("the Python code", result, check=check)

    def write_file(self, path: str, content: str | bytes) -> None:
        """Write a file of the workspace, and the directories it is in."""
        data = content.encode() if isinstance(content, str) else content
        with heeding(self.session) as session:
            checked(f"writing {path}", session.write_file(in_workspace(path), data))

    def read_file(self, path: str) -> bytes:
        """A file of the workspace."""
        return self.session.read_file(in_workspace(path))

    def ensure_dir(self, path: str) -> None:
        """Make a directory of the workspace, unless it is there."""
        self.exec(f"mkdir -p -- {shlex.quote(in_workspace(path))}")

    def upload(self, source: Path | str, path: str = ".") -> None:
        """Copy a file or directory of this machine into the workspace."""
        source = Path(source)
        if source.is_dir():
            with heeding(self.session) as session:
                checked(f"copying {source}", session.upload(source, in_workspace(path)))
        elif source.is_file():
            into = path == "." or path.endswith("/")
            self.write_file(posixpath.join(path, source.name) if into else path, bytes_of(source))
        else:
            raise UsageError(f"there is no file or directory {source}")


def _experiment(name: str, script: str, config: SandboxConfig) -> Experiment:
    try:
        return Experiment(name=name, task=f"Driven by {script}.", sandbox=config)
    except ValidationError as error:
        raise config_error(error, Experiment, "Sandbox", {}) from error


@contextmanager
def heeding(session: Session) -> Iterator[Session]:
    """Tell once that another sandbox answers than before, whose variables are gone."""
    try:
        yield session
    except LostOperation as error:
        session.boot = error.boot
        raise


def checked(what: str, result: Result, *, check: bool = True) -> Result:
    """The result; raises Failed where it did not end well."""
    if not check:
        return result
    if not result.final or result.state != "ok" or result.exit not in (0, None):
        raise Failed(what, result)
    return result


def in_workspace(path: str) -> str:
    """A path as it is below the workspace: /workspace is what Seer's scripts call it."""
    if not path.startswith("/"):
        return path
    if not f"{posixpath.normpath(path)}/".startswith("/workspace/"):
        raise UsageError(
            f"{path!r} is not in the workspace", hint="paths are relative, or begin with /workspace"
        )
    return posixpath.relpath(path, "/workspace")
