"""Tools that look after sandboxes: those that go on and that the caller has started."""

from __future__ import annotations

import getpass
import json
import shlex
import threading
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from runner import hidden
from runner.agent import inputs
from runner.agent.tools import Answer, Toolbox, described, text
from runner.api import snapshots
from runner.api.guest import GuestRun
from runner.backends import backend_of
from runner.backends.base import Selector, Status
from runner.config.sandbox import ExecutionMode
from runner.errors import RunnerError, RunNotFound, SandboxUnreachable
from runner.settings import Settings

_GPUS = (
    "nvidia-smi --query-gpu=index,name,uuid,utilization.gpu,memory.used,memory.total "
    "--format=csv 2>&1 || echo 'no GPU is seen here'"
)
_PROCESSES = """
import psutil, time
print(f"{'pid':>7} {'cpu %':>6} {'memory MB':>9}  command")
seen = list(psutil.process_iter(["cmdline", "name", "memory_info"]))
for process in seen:
    process.cpu_percent()
time.sleep(0.5)
rows = []
for process in seen:
    try:
        info, busy = process.info, process.cpu_percent()
        words = info["cmdline"] or [info["name"]]
        rows.append((info["memory_info"].rss / 1e6, busy, process.pid, words))
    except (psutil.Error, AttributeError):
        continue
for used, busy, pid, words in sorted(rows, reverse=True)[:40]:
    print(f"{pid:7} {busy:6.1f} {used:9.1f}  {' '.join(words)[:120]}")
"""


class _ListSandboxes(inputs.Input):
    """List your sandboxes that go on: id, state, what each waits for, GPUs, backend."""


class _Of(inputs.Input):
    sandbox: Annotated[str, Field(description="its id, as list_sandboxes has it")]


class _Info(_Of):
    """Tell what a sandbox has: hardware, image, packages, repos, models, and how it stands."""


class _Exec(_Of, inputs.RunShell):
    """Run a shell command in the workspace of a sandbox. After `timeout` seconds it goes on, and
    `wait` shows more."""  # noqa: D205, D209


class _ExecPython(_Of):
    """Run Python code in a process of its own, with the packages of the sandbox's kernel."""

    code: str
    timeout: Annotated[float, Field(gt=0, le=inputs.LONGEST_WAIT_S, description="seconds")] = 120.0


class _Wait(_Of, inputs.Wait):
    """Wait for a command that was still running, and see all its output so far."""


class _Interrupt(_Of, inputs.Interrupt):
    """Stop a command or cell that is running."""


class _Terminate(_Of):
    """End a sandbox, and the run that it is of, keeping all that was made."""


class _Snapshot(_Of):
    """Keep the files and Python packages of a sandbox, for another one that starts with them.
    Not while a cell or command runs."""  # noqa: D205, D209


class _ReadFile(_Of, inputs.ReadFile):
    """Read a text file of a sandbox, a part at a time."""


class _WriteFile(_Of, inputs.WriteFile):
    """Write a text file in a sandbox, whole; directories are made."""


class _ListFiles(_Of, inputs.ListFiles):
    """List a directory of a sandbox: paths relative to it, sizes in bytes."""


class _GpuStatus(_Of):
    """Tell how busy the GPUs of a sandbox are, and how full."""


class _Processes(_Of):
    """List what runs in a sandbox, the largest first."""


class Management:
    """The tools, for one user on one backend. What they do is in the records of the runs."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self._settings, self._backend = settings, backend_of(settings)
        self._author = getpass.getuser()
        self._guests: dict[str, GuestRun] = {}
        self._guard = threading.Lock()
        self._tools: dict[str, tuple[type[inputs.Input], Callable[[Any, str], Answer]]] = {
            "list_sandboxes": (_ListSandboxes, self._list),
            "sandbox_info": (_Info, self._info),
            "exec": (_Exec, self._in_sandbox("run_shell")),
            "exec_python": (_ExecPython, self._exec_python),
            "wait": (_Wait, self._in_sandbox("wait")),
            "interrupt": (_Interrupt, self._in_sandbox("interrupt")),
            "terminate": (_Terminate, self._terminate),
            "snapshot": (_Snapshot, self._snapshot),
            "read_file": (_ReadFile, self._in_sandbox("read_file")),
            "write_file": (_WriteFile, self._in_sandbox("write_file")),
            "list_files": (_ListFiles, self._in_sandbox("list_files")),
            "gpu_status": (_GpuStatus, self._gpu_status),
            "processes": (_Processes, self._processes),
        }

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each."""
        return described({name: model for name, (model, _) in self._tools.items()})

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        """Call one; what goes wrong is told in words."""
        if name not in self._tools:
            return text(
                f"there is no tool {name}; there are: {', '.join(self._tools)}", is_error=True
            )
        model, do = self._tools[name]
        try:
            return do(inputs.validated(model, given), op)
        except (SandboxUnreachable, RuntimeError) as error:
            self._forget(str(given.get("sandbox")))
            return text(str(error), is_error=True)
        except RunnerError as error:
            return text(str(error), is_error=True)

    # -- whose they are --------------------------------------------------------------------

    def _own(self) -> list[Status]:
        """The caller's sandboxes that go on, the newest first."""
        found = self._backend.list(Selector(author=self._author))
        return [status for status in found if status.sandbox_alive]

    def _status(self, run_id: str) -> Status:
        """How one of them stands; RunNotFound for one of somebody else, as for none."""
        own = {status.run_id: status for status in self._own()}
        if run_id not in own:
            raise RunNotFound(
                f"{self._author} has no sandbox {run_id!r} that goes on",
                hint=f"there are: {', '.join(own) or 'none'}",
            )
        return own[run_id]

    def _guest(self, run_id: str) -> GuestRun:
        with self._guard:
            if run_id not in self._guests:
                status, handle = self._status(run_id), self._backend.attach(run_id)
                self._guests[run_id] = GuestRun(self._settings, self._backend, handle, status)
            return self._guests[run_id]

    def _forget(self, run_id: str) -> None:
        """Connect anew the next time."""
        with self._guard:
            if guest := self._guests.pop(run_id, None):
                guest.leave()

    # -- what they do ----------------------------------------------------------------------

    def _list(self, _: _ListSandboxes, __: str) -> Answer:
        lines = [_short(status) for status in self._own()]
        return text("\n".join(lines) or f"{self._author} has no sandbox that goes on")

    def _info(self, given: _Info, _: str) -> Answer:
        status = self._status(given.sandbox)
        guest = self._guest(given.sandbox)
        plan, info = guest.plan, guest.session.info()
        sandbox = plan.experiment.sandbox
        told = {
            "id": status.run_id,
            "name": plan.name,
            "state": status.state,
            "reason": status.reason,
            "backend": plan.backend,
            "created": plan.created,
            "timeout_s": sandbox.timeout,
            "gpu": f"{sandbox.gpu_count} × {' or '.join(sandbox.gpu)}" if sandbox.gpu else None,
            "cpu": sandbox.cpu,
            "memory": sandbox.memory,
            "image": plan.images.sandbox if plan.images else None,
            "python": info["environment"].get("python", plan.python),
            "packages": list(plan.packages),
            "repos": [f"{repo.name} at {repo.commit[:12]}" for repo in plan.repos],
            "models": [
                hidden.words(model) if model.hidden else model.name for model in plan.models
            ],
            "secrets": list(sandbox.secrets),
            "kernel": info["kernel"]["state"],
            "running": info["running"],
            "queued": info["queued"],
        }
        return text(json.dumps(told, indent=1, ensure_ascii=False, default=str))

    def _in_sandbox(self, tool: str) -> Callable[[Any, str], Answer]:
        """The same tool of the sandbox itself."""

        def call(given: _Of, op: str) -> Answer:
            asked = given.model_dump(exclude={"sandbox"})
            return self._toolbox(given.sandbox).call(tool, asked, op)

        return call

    def _exec_python(self, given: _ExecPython, op: str) -> Answer:
        command = f"python -c {shlex.quote(given.code)}"
        asked = {"command": command, "timeout": given.timeout}
        return self._toolbox(given.sandbox).call("run_shell", asked, op)

    def _gpu_status(self, given: _GpuStatus, op: str) -> Answer:
        return self._toolbox(given.sandbox).call("run_shell", {"command": _GPUS}, op)

    def _processes(self, given: _Processes, op: str) -> Answer:
        command = f"python -c {shlex.quote(_PROCESSES)}"
        return self._toolbox(given.sandbox).call("run_shell", {"command": command}, op)

    def _terminate(self, given: _Terminate, _: str) -> Answer:
        self._guest(given.sandbox).end()
        self._forget(given.sandbox)
        status = self._backend.status(self._backend.attach(given.sandbox))
        return text(f"{given.sandbox} is {status.state}: {status.reason}")

    def _snapshot(self, given: _Snapshot, _: str) -> Answer:
        guest = self._guest(given.sandbox)
        taken = snapshots.take(guest.session, guest.plan, self._settings)
        return text(
            f"snapshot {taken} of {taken.of}, {taken.bytes:,} bytes, without "
            f"{'; '.join(snapshots.WITHOUT)}"
        )

    def _toolbox(self, run_id: str) -> Toolbox:
        return Toolbox(self._guest(run_id).session, ExecutionMode.CLI)


def _short(status: Status) -> str:
    run = status.run
    sandbox = run.plan.get("experiment", {}).get("sandbox", {})
    parts = [f"{status.run_id}: {run.name}", status.state]
    if sandbox.get("gpu"):
        parts.append(f"{sandbox.get('gpu_count', 1)} × {' or '.join(sandbox['gpu'])}")
    parts.append(f"since {run.created}")
    return ", ".join(parts) + (f" ({status.reason})" if status.reason else "")
