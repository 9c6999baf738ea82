"""LocalBackend: a run as two processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets as random_secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner import locks
from runner.agent.options import AgentOptions
from runner.backends.base import Handle, LogLine, Selector, Status
from runner.backends.local import processes
from runner.backends.local.paths import Paths
from runner.errors import InfrastructureError, RunnerError, RunNotFound, UsageError
from runner.phases import read_phases
from runner.plan import RunPlan
from runner.prepare import OUTPUTS
from runner.record import Record
from runner.record.chain import read_lines
from runner.record.store import find, runs
from runner.record.times import spent_s
from runner.session import Endpoint
from runner.settings import Settings

NOT_ISOLATED = (
    "local does not isolate: the agent's code runs as you, with your files and your network"
)
KILL_GRACE_S = 5.0
CANCELLED = "cancelled"


class LocalBackend:
    """Runs on this machine: one process group for the sandbox, one for the agent."""

    def __init__(self, settings: Settings) -> None:
        self._records = Path(settings.runs).absolute()
        self._state = settings.state_dir
        self._volumes = settings.volumes

    # -- the protocol ----------------------------------------------------------------------

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Start the sandbox, and the agent if the plan has one."""
        paths = self._paths(plan.run_id)
        record = Record.open(self._records / plan.run_id)
        try:
            paths.root.mkdir(parents=True, mode=0o700)
            paths.server.mkdir()
            (paths.workspace / OUTPUTS).mkdir(parents=True)
            self._fill(plan, record, paths)
            return self._start(plan, secrets, paths, record, "started")
        except BaseException as error:
            shutil.rmtree(paths.root, ignore_errors=True)
            if isinstance(error, OSError):
                raise InfrastructureError(f"the sandbox could not be set up: {error}") from error
            raise

    def resume(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Go on with a run: in its sandbox if that lives, else in a new one with what was kept."""
        paths = self._paths(plan.run_id)
        record = Record.open(self._records / plan.run_id)
        if record.alive():
            raise UsageError(
                f"run {plan.run_id} goes on already", hint=f"runner attach {plan.run_id}"
            )
        paths.cancel.unlink(missing_ok=True)
        if locks.is_held(paths.lock):
            lock = record.take_lock()
            try:
                handle = self.attach(plan.run_id)
                return self._start_agent(plan, secrets, paths, record, handle, "resumed", lock)
            finally:
                os.close(lock)
        if not paths.workspace.is_dir():
            paths.server.mkdir(parents=True, mode=0o700, exist_ok=True)
            (paths.workspace / OUTPUTS).mkdir(parents=True)
            self._fill(plan, record, paths)
            shutil.copytree(
                record.path / OUTPUTS, paths.workspace / OUTPUTS, dirs_exist_ok=True, symlinks=True
            )
        _restore_journal(record.path / "journal.jsonl", paths.server / "journal.jsonl")
        paths.phases.unlink(missing_ok=True)
        return self._start(plan, secrets, paths, record, "resumed in a new sandbox")

    def attach(self, run_id: str) -> Handle:
        """Find a run again; one whose sandbox is gone has its record still."""
        paths = self._paths(run_id)
        if paths.handle.is_file():
            return Handle("local", run_id, json.loads(paths.handle.read_text()))
        if (self._records / run_id).is_dir():
            return Handle("local", run_id, {})
        find(self._records, run_id)
        raise RunNotFound(f"there is no run {run_id}")

    def list(self, selector: Selector) -> list[Status]:
        """The runs whose records are in the record store, the newest first."""
        found = []
        for path in runs(self._records):
            try:
                status = self.status(Handle("local", path.name, {}))
            except RunnerError:
                continue
            if (
                selector.name in (None, status.run.name)
                and selector.state in (None, status.state)
                and selector.author in (None, status.run.author)
            ):
                found.append(status)
        return found

    def status(self, handle: Handle) -> Status:
        """How the run stands: the record's state, checked against the processes."""
        path = find(self._records, handle.run_id)
        record, paths = Record.open(path), self._paths(handle.run_id)
        agent, sandbox = record.alive(), locks.is_held(paths.lock)
        # After the look at the lock: an agent that has let go of it has written its end before.
        run = record.glance()
        phases = tuple(read_phases(paths.phases))
        state, reason, exit_status = run.state, run.reason, run.exit_status
        if not run.plan.get("agent", True):
            state = "running" if sandbox else "done"
        elif run.is_over and not agent:
            pass
        elif not agent:
            state, exit_status = "interrupted", None
            where = "its sandbox still runs" if sandbox else "its sandbox has ended"
            reason = (
                f"the agent's processes are gone ({where}); `runner resume {run.run_id}` goes on"
            )
        if state in ("created", "preparing") and phases:
            now = phases[-1]
            state = "preparing"
            reason = now.failure or f"{now.name} {now.detail}".strip()
        return Status(run.run_id, state, reason, exit_status, phases, agent, sandbox, run)

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[LogLine]:
        """What installing, the sandbox and the agent printed."""
        record, paths = Record.open(find(self._records, handle.run_id)), self._paths(handle.run_id)
        files = {
            "prepare": paths.server / "install.log",
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
            time.sleep(0.2)

    @contextlib.contextmanager
    def endpoint(self, handle: Handle) -> Iterator[Endpoint]:
        """The sandbox server's loopback port."""
        paths = self._paths(handle.run_id)
        if not locks.is_held(paths.lock):
            raise InfrastructureError(
                f"the sandbox of {handle.run_id} has ended",
                hint=f"`runner fetch {handle.run_id}` has all that was made; "
                f"`runner resume {handle.run_id}` starts another one",
            )
        yield Endpoint(self.attach(handle.run_id).data["url"], paths.token.read_text())

    def stop(self, handle: Handle, grace_s: float) -> None:
        """End the agent, which collects what was made; then the sandbox; by force at last."""
        paths = self._paths(handle.run_id)
        data = self.attach(handle.run_id).data
        record = Record.open(find(self._records, handle.run_id))
        if record.alive() and "agent" in data:
            paths.cancel.write_text("cancelled by the user")
            processes.signal_group(data["agent"], signal.SIGTERM)
            if not processes.wait_until(lambda: not record.alive(), grace_s):
                processes.signal_group(data["agent"], signal.SIGKILL)
                processes.wait_until(lambda: not record.alive(), KILL_GRACE_S)
        if locks.is_held(paths.lock) and (init := processes.find(data.get("sandbox", ""))):
            init.terminate()
            if not processes.wait_until(lambda: not locks.is_held(paths.lock), KILL_GRACE_S):
                processes.signal_group(data["sandbox"], signal.SIGKILL)
        if record.state().plan.get("agent", True) and not record.state().is_over:
            ended = Record.open(record.path, write=True)
            journal = {"lines": ended.journal.lines, "head": ended.journal.head}
            ended.say(
                "end",
                state=CANCELLED,
                reason="cancelled by the user; the agent did not end by itself",
                bound=None,
                exit_status=130,
                journal=journal,
            )
            ended.close()

    def delete(self, handle: Handle) -> None:
        """Remove the sandbox's directory, ending the run first; the record stays."""
        self.stop(handle, KILL_GRACE_S)
        shutil.rmtree(self._paths(handle.run_id).root, ignore_errors=True)

    # -- starting --------------------------------------------------------------------------

    def _paths(self, run_id: str) -> Paths:
        return Paths(self._state / run_id)

    def _fill(self, plan: RunPlan, record: Record, paths: Paths) -> None:
        """Put the inputs into the workspace, and links to the volumes."""
        for item in plan.inputs:
            target = paths.workspace / item.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(record.input(item.sha256))
            target.chmod(item.mode)
        for volume in plan.experiment.sandbox.volumes:
            link = paths.workspace / volume.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self._volumes[volume.name], target_is_directory=True)

    def _start(
        self,
        plan: RunPlan,
        secrets: Mapping[str, str],
        paths: Paths,
        record: Record,
        reason: str,
    ) -> Handle:
        paths.plan.write_text(plan.model_dump_json())
        paths.token.touch(mode=0o600)
        paths.token.write_text(random_secrets.token_urlsafe(32))
        lock, held = record.take_lock(), locks.hold(paths.lock)
        if held is None:
            os.close(lock)
            raise InfrastructureError(f"the sandbox of {plan.run_id} runs already")
        sandbox: subprocess.Popen[bytes] | None = None
        try:
            with _listening(plan.experiment.sandbox.jupyter_port) as listening:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                own = plan.experiment.sandbox
                left = own.timeout - spent_s(
                    line for line, _ in read_lines(record.path / "transcript.jsonl")
                )
                sandbox = processes.start(
                    [
                        sys.executable, "-P", "-m", "runner.backends.local.init",
                        str(paths.root), str(max(left, 0.0)),
                        str(listening.fileno()), str(held),
                    ],
                    cwd=paths.workspace,
                    env=processes.clean_environment()
                    | {"CUDA_VISIBLE_DEVICES": ",".join(plan.gpus)}
                    | own.env
                    | {name: secrets[name] for name in own.secrets},
                    log=record.path / "logs" / "sandbox.log",
                    keep_fds=(listening.fileno(), held),
                )  # fmt: skip
            data = {"url": url, "sandbox": processes.identity(sandbox.pid)}
            handle = Handle("local", plan.run_id, data)
            if plan.agent:
                return self._start_agent(plan, secrets, paths, record, handle, reason, lock)
            paths.handle.write_text(json.dumps(data))
            return handle
        except BaseException:
            if sandbox is not None:
                sandbox.terminate()
                sandbox.wait(KILL_GRACE_S)
            raise
        finally:
            os.close(lock)
            os.close(held)

    def _start_agent(
        self,
        plan: RunPlan,
        secrets: Mapping[str, str],
        paths: Paths,
        record: Record,
        handle: Handle,
        reason: str,
        lock: int,
    ) -> Handle:
        options = AgentOptions(
            record=record.path,
            url=handle.data["url"],
            token_file=paths.token,
            cancel=paths.cancel,
            phases=paths.phases,
            sandbox_lock=paths.lock,
            reason=reason,
        )
        paths.agent_options.write_text(options.model_dump_json())
        key = plan.experiment.agent.llm_secret
        agent = processes.start(
            [sys.executable, "-P", "-m", "runner.agent", str(paths.agent_options)],
            cwd=record.path,
            env=processes.clean_environment() | ({key: secrets[key]} if key else {}),
            log=record.path / "logs" / "agent.log",
            keep_fds=(lock,),
        )
        data = {**handle.data, "agent": processes.identity(agent.pid)}
        paths.handle.write_text(json.dumps(data))
        return Handle("local", plan.run_id, data)


@contextlib.contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """A listening socket of loopback, held from now on, so that the address is known at once."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise UsageError(
                f"port {port} of this machine is taken: {error.strerror}",
                hint="leave sandbox.jupyter_port out for a free one",
            ) from error
        listening.listen(128)
        yield listening


def _restore_journal(kept: Path, journal: Path) -> None:
    """Give a new sandbox the journal that the record has, if it has more than the sandbox's own."""
    lines = [line for line, _ in read_lines(kept)] if kept.exists() else []
    have = journal.read_bytes().count(b"\n") if journal.exists() else 0
    if len(lines) > have:
        with journal.open("w") as file:
            for line in lines:
                line.pop("prev", None)
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
