"""Tiny experiments, submitted and followed: what the tests of the backends share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from runner import submission
from runner.backends import backend_of
from runner.backends.base import Handle, Status
from runner.plan import RunPlan
from runner.record import Record, read_lines
from runner.session import Session
from runner.settings import load_settings

Step = Mapping[str, Any]
DEADLINE_S = 90.0


def cell(source: str, expect: str | None = None, **more: Any) -> Step:
    """One turn of the scripted agent: a cell. `expect` is held against the turn before."""
    step = {"tools": [{"name": "run_cell", "input": {"source": source, **more}}]}
    return step | ({"expect": expect} if expect else {})


def tool(name: str, expect: str | None = None, **given: Any) -> Step:
    step = {"tools": [{"name": name, "input": given}]}
    return step | ({"expect": expect} if expect else {})


def end(expect: str | None = None) -> Step:
    return {"text": "That is all."} | ({"expect": expect} if expect else {})


def waiting(file: Path, before: str = "", after: str = "") -> str:
    """Source of a cell that goes on when the test makes a file."""
    return (
        f"import pathlib, time\n{before}\n"
        f"while not pathlib.Path({str(file)!r}).exists(): time.sleep(0.02)\n{after}"
    )


def until(true: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait for a condition; what it returned last."""
    over = time.monotonic() + deadline_s
    while not (value := true()):
        assert time.monotonic() < over, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.03)
    return value


GO = "go"
"""A file of the workspace: a cell of `held` ends when it is there."""


def held(before: str = "", after: str = "") -> str:
    """Source of a cell that goes on when `Run.let_go` is called; works on every backend."""
    return waiting(Path(GO), before, after)


class Lab:
    """A place of its own for records and state, and everything that was started there.

    Where a backend keeps what it holds elsewhere, its lab says so in the methods that other
    labs give: `address`, `secrets`, `traces`, `cgroups`.
    """

    address = "127.0.0.1"
    """Of this machine, as a sandbox can reach it."""

    def __init__(self, top: Path, **settings: Any) -> None:
        self.top = top
        self.given = {"runs": str(top / "runs"), "state_dir": top / "state", **settings}
        self.settings = load_settings(**self.given)
        self.backend = backend_of(self.settings)
        self.runs: list[Run] = []

    @property
    def env(self) -> dict[str, str]:
        """By which another process uses the lab; in the directory `top` it has its records."""
        state_dir = str(self.settings.state_dir)
        return {"RUNNER_BACKEND": self.settings.backend, "RUNNER_STATE_DIR": state_dir}

    def write(self, steps: Sequence[Step] = (), toml: str = "", folder: str = "x") -> Path:
        """An experiment file, with a scripted agent if there are steps."""
        place = self.top / folder
        place.mkdir(parents=True, exist_ok=True)
        agent = ""
        if steps:
            (place / "script.json").write_text(json.dumps({"steps": list(steps)}))
            agent = '[agent]\nprovider = "scripted"\nscript = "script.json"\n'
        file = place / "experiment.toml"
        head, _, tables = toml.partition("[")
        tables = f"[{tables}\n" if tables else ""
        if "[agent]\n" in tables and agent:
            tables, agent = tables.replace("[agent]\n", agent), ""
        file.write_text(f'name = "tiny"\ntask = "Do it."\n{head}\n{tables}{agent}')
        return file

    def prepare(
        self, steps: Sequence[Step] = (), toml: str = "", *, agent: bool = True
    ) -> submission.Submission:
        file = self.write(steps, toml)
        if agent:
            return submission.prepare(file, self.settings)
        experiment = submission.load(file, None)
        return submission.from_experiment(experiment, self.settings, file.parent, agent=False)

    def start(self, prepared: submission.Submission) -> Run:
        return self.adopt(submission.start(prepared, self.settings))

    def submit(
        self,
        steps: Sequence[Step] = (),
        toml: str = "",
        files: Mapping[str, str] | None = None,
        *,
        agent: bool = True,
    ) -> Run:
        """Start an experiment; `files` lie beside it."""
        for name, text in (files or {}).items():
            (self.top / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / "x" / name).write_text(text)
        return self.start(self.prepare(steps, toml, agent=agent))

    def adopt(self, handle: Handle) -> Run:
        """A run that was started elsewhere."""
        self.runs.append(Run(self, handle))
        return self.runs[-1]

    @contextlib.contextmanager
    def secrets(self, **values: str) -> Iterator[None]:
        """Have these secrets where runs of this backend take them from."""
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    @contextlib.contextmanager
    def trusting(self, ca: Path) -> Iterator[None]:
        """Let this machine's git, and the sandboxes', trust a CA."""
        with self.secrets(GIT_SSL_CAINFO=str(ca)):
            yield

    def traces(self, run: Run) -> Iterator[tuple[str, bytes]]:
        """Everything that the backend holds of a run, but the workspace's outputs, by its name."""
        for file in run.root.rglob("*"):
            if file.is_file() and file.parent != run.root / "workspace" / "outputs":
                yield str(file), file.read_bytes()

    def cgroups(self, run: Run) -> list[str]:
        """What the cgroups of the run's containers are named by, where they are of this machine."""
        return []

    def unused(self) -> bool:
        """Whether nothing of any run is there."""
        return not self.settings.state_dir.exists()

    def close(self) -> None:
        """End all that is still there, and see that nothing is left of it."""
        for run in self.runs:
            if run.path.exists():
                self.backend.delete(run.handle)
        state = self.top / "state"
        assert not state.exists() or not list(state.iterdir())
        until(lambda: not list(processes_of(self.top)), f"nothing of {self.top} runs", 10)


class Run:
    """One run, looked at from outside."""

    def __init__(self, lab: Lab, handle: Handle) -> None:
        self.lab, self.handle, self.run_id = lab, handle, handle.run_id
        self.path = Path(lab.settings.runs).absolute() / handle.run_id
        self.root = lab.settings.state_dir / handle.run_id

    @property
    def status(self) -> Status:
        return self.lab.backend.status(self.handle)

    @property
    def plan(self) -> RunPlan:
        return submission.plan_of(self.path)

    def over(self, deadline_s: float = DEADLINE_S) -> Status:
        """Wait until both processes are gone."""

        def gone() -> Status | None:
            status = self.status
            return None if status.agent_alive or status.sandbox_alive else status

        until(gone, f"{self.run_id} is over", deadline_s)
        return self.synced().status

    def agent_over(self) -> Status:
        until(lambda: not self.status.agent_alive, f"the agent of {self.run_id} has ended")
        return self.status

    def state(self, state: str) -> None:
        until(lambda: self.synced().status.state == state, f"{self.run_id} is {state}")

    def lines(self, kind: str | None = None) -> list[dict[str, Any]]:
        file = self.path / "transcript.jsonl"
        return [line for line, _ in read_lines(file) if kind in (None, line["type"])]

    def journal(self) -> list[dict[str, Any]]:
        file = self.path / "journal.jsonl"
        return [line for line, _ in read_lines(file)] if file.exists() else []

    def results(self) -> list[str]:
        """The text of every tool result."""
        return [
            "\n".join(block.get("text", "") for block in line["content"])
            for line in self.lines("tool_result")
        ]

    def log(self) -> str:
        return "\n".join(line.text for line in self.lab.backend.logs(self.handle, follow=False))

    def let_go(self) -> None:
        """Let a cell of `held` go on."""
        with self.session() as session:
            session.write_file(GO, b"")

    def wait_for_output(self, name: str) -> None:
        """Wait until the running cell has made this file in outputs/."""
        with self.session() as session:
            until(
                lambda: name in [entry["path"] for entry in session.tree("outputs")],
                f"the cell makes {name}",
            )

    def synced(self) -> Run:
        """With its record as it is now."""
        self.lab.backend.sync(self.handle)
        return self

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session on the sandbox, once it is ready."""
        with self.lab.backend.endpoint(self.handle) as endpoint, Session(endpoint) as session:
            session.connect(DEADLINE_S)
            yield session

    def resume(self, **overrides: Any) -> None:
        given = {key.replace("__", "."): value for key, value in overrides.items()}
        self.handle = submission.resume(self.path, self.lab.settings, given)

    # -- its processes ---------------------------------------------------------------------

    @property
    def init(self) -> int:
        return int(self.handle.data["sandbox"].partition("@")[0])

    @property
    def supervisor(self) -> int:
        return int(self.handle.data["agent"].partition("@")[0])

    @property
    def worker(self) -> int:
        return int(self.lines("attempt")[-1]["pid"])

    @property
    def server(self) -> int:
        for process in processes_of(self.root):
            with contextlib.suppress(psutil.Error):
                if "runner.sandbox" in process.cmdline():
                    return process.pid
        raise AssertionError("no sandbox server")

    def kill_agent(self) -> None:
        """Both of its processes at once, as the machine's OOM killer might."""
        os.kill(self.supervisor, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker, signal.SIGKILL)
        until(lambda: not self.status.agent_alive, "the agent is gone", 10)


def processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Those that name the folder in their command line or environment, but for this one."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if (
                process.pid not in (os.getpid(), os.getppid())
                and process.status() != psutil.STATUS_ZOMBIE
                and any(str(folder) in word for word in words)
            ):
                yield process


def pids(*names: str) -> list[int]:
    """Processes that have one of these words in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(name in " ".join(process.cmdline()) for name in names):
                found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]


def record_of(run: Run) -> Record:
    return Record.open(run.path)
