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

from runner.api.driven import DrivenRun, chosen, outcome_of, script_name
from runner.api.files import bytes_of
from runner.backends import backend_of
from runner.config.experiment import Experiment
from runner.config.explain import config_error
from runner.config.sandbox import SandboxConfig
from runner.errors import OperationError, UsageError
from runner.names import slug
from runner.session import LostOperation, Result, Session
from runner.settings import load_settings
from runner.submission import from_experiment

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
        self._driven: DrivenRun | None = None

    def start(self) -> Self:
        """Start it, and wait until its kernel is ready.

        Raises UsageError and ConfigError for what can be mended before anything starts, and
        InfrastructureError where it does not come up: then nothing of it is left but its record.
        """
        if self._driven is not None:
            raise UsageError(f"this sandbox was started already: run {self.run_id}")
        script = script_name()
        experiment = _experiment(
            self._name or slug(Path(script).stem) or "sandbox", script, self.config
        )
        submission = from_experiment(
            experiment, self._settings, Path(sys.argv[0]).parent, script, agent=False
        )
        backend = backend_of(self._settings)
        self._driven = DrivenRun.begin(submission, self._settings, backend, script)
        # A script that forgets to end it does not leave it behind.
        atexit.register(self._leave)
        return self

    def terminate(self) -> None:
        """Collect what was made, and end it. In a `finally` the record says what was raised.

        A second call does nothing.
        """
        self._end(sys.exc_info()[1])

    def __enter__(self) -> Self:
        return self if self._driven else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end(error)

    def _leave(self) -> None:
        """End it when Python leaves, by an exception that nobody caught or without one."""
        self._end(getattr(sys, "last_value", None))

    def _end(self, error: BaseException | None) -> None:
        if self._driven is not None:
            self._driven.end(outcome_of(error))
            atexit.unregister(self._leave)

    @property
    def driven(self) -> DrivenRun:
        """Its run, with the record; UsageError before `start`."""
        if self._driven is None:
            raise UsageError("this sandbox was not started: call `start()`")
        return self._driven

    @property
    def session(self) -> Session:
        """The client of its server; UsageError when it has ended."""
        return self.driven.answering

    @property
    def run_id(self) -> str:
        """The run's id: `runner list`, `status`, `fetch` know it by this."""
        return self.driven.plan.run_id

    @property
    def record(self) -> Path:
        """The directory of its record."""
        return self.driven.record.path

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
