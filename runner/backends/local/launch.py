"""Starting the two processes of a local run."""

from __future__ import annotations

import contextlib
import os
import secrets as random_secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner import locks
from runner.agent.options import AgentOptions
from runner.backends.base import Handle
from runner.backends.local import commands, directory, environment, processes
from runner.backends.local.handle import NAME, read_handle, write_handle
from runner.backends.local.paths import Paths
from runner.errors import InfrastructureError, UsageError
from runner.fill import restore_journal
from runner.plan import RunPlan
from runner.record import Record, read_lines
from runner.record.times import spent_s

RELEASED_S = 30.0
"""How long a sandbox may take to end once its agent has let it go."""


def create(
    plan: RunPlan,
    secrets: Mapping[str, str],
    paths: Paths,
    record: Record,
    volumes: Mapping[str, Path],
) -> Handle:
    """Fill the sandbox's directory and start what the plan has in it; all or nothing."""
    with _locked(record) as lock, _machine_errors():
        paths.root.mkdir(parents=True, mode=0o700)
        try:
            directory.fill(plan, record, paths, volumes)
            return _start(plan, secrets, paths, record, lock, "started")
        except BaseException:
            directory.remove(paths)
            raise


def resume(
    plan: RunPlan,
    secrets: Mapping[str, str],
    paths: Paths,
    record: Record,
    volumes: Mapping[str, Path],
) -> Handle:
    """Go on in the sandbox if it lives, else in a new one with what was kept."""
    if record.alive():
        raise UsageError(f"run {plan.run_id} goes on already", hint=f"runner attach {plan.run_id}")
    with _locked(record) as lock, _machine_errors():
        paths.cancel.unlink(missing_ok=True)
        if paths.release.exists():
            processes.wait_until(lambda: not locks.is_held(paths.lock), RELEASED_S)
        if locks.is_held(paths.lock):
            if not plan.agent:
                raise UsageError(f"the sandbox of {plan.run_id} runs, and it has no agent")
            handle = Handle(NAME, plan.run_id, read_handle(paths))
            return _start_agent(plan, secrets, paths, record, lock, handle, "resumed")
        directory.sweep(paths)
        directory.fill(plan, record, paths, volumes)
        restore_journal(record.path / "journal.jsonl", paths.journal)
        words = "resumed in a new sandbox" if record.state().attempts else "started"
        return _start(plan, secrets, paths, record, lock, words)


def _start(
    plan: RunPlan,
    secrets: Mapping[str, str],
    paths: Paths,
    record: Record,
    lock: int,
    reason: str,
) -> Handle:
    """Start the sandbox, and the agent if the plan has one; both or none.

    `lock` is the descriptor that holds the record's lock: the agent inherits it.
    """
    paths.plan.write_text(plan.model_dump_json())
    paths.release.unlink(missing_ok=True)
    paths.phases.unlink(missing_ok=True)
    _private(paths.token, random_secrets.token_urlsafe(32))
    held = locks.hold(paths.lock)
    if held is None:
        raise InfrastructureError(f"the sandbox of {plan.run_id} runs already")
    sandbox: subprocess.Popen[bytes] | None = None
    try:
        with _listening(plan.experiment.sandbox.jupyter_port) as listening:
            data = {"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}
            write_handle(paths, data)
            lines = (line for line, _ in read_lines(record.path / "transcript.jsonl"))
            sandbox = processes.start(
                commands.sandbox(
                    paths,
                    plan.experiment.sandbox.timeout - spent_s(lines),
                    listening.fileno(),
                    held,
                ),
                cwd=paths.workspace,
                env=environment.for_fetching()
                | commands.sandbox_variables(plan)
                | {name: secrets[name] for name in plan.experiment.sandbox.all_secrets},
                log=record.path / "logs" / "sandbox.log",
                keep_fds=(listening.fileno(), held),
            )
        data["sandbox"] = processes.identity(sandbox.pid)
        write_handle(paths, data)
        handle = Handle(NAME, plan.run_id, data)
        if not plan.agent:
            return handle
        return _start_agent(plan, secrets, paths, record, lock, handle, reason)
    except BaseException:
        if sandbox is not None:
            processes.undo(sandbox)
        raise
    finally:
        os.close(held)


def _start_agent(
    plan: RunPlan,
    secrets: Mapping[str, str],
    paths: Paths,
    record: Record,
    lock: int,
    handle: Handle,
    reason: str,
) -> Handle:
    """Start the agent for a sandbox that is there."""
    options = AgentOptions(
        record=record.path,
        url=handle.data["url"],
        token_file=paths.token,
        cancel=paths.cancel,
        phases=paths.phases,
        sandbox_lock=paths.lock,
        sandbox_log=record.path / "logs" / "sandbox.log",
        release=paths.release,
        reason=reason,
        plan=plan,
    )
    paths.agent_options.write_text(options.model_dump_json())
    key = plan.experiment.agent.llm_secret
    agent = processes.start(
        commands.agent(paths),
        cwd=record.path,
        env=environment.for_agent() | ({key: secrets[key]} if key else {}),
        log=record.path / "logs" / "agent.log",
        keep_fds=(lock,),
    )
    try:
        data = {**handle.data, "agent": processes.identity(agent.pid)}
        write_handle(paths, data)
    except BaseException:
        processes.undo(agent)
        raise
    return Handle(NAME, plan.run_id, data)


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """A listening socket of loopback, held from now on, so that the address is known at once."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port or 0))
            listening.listen(128)
        except OSError as error:
            raise UsageError(
                f"port {port} of this machine is taken: {error.strerror}",
                hint="leave sandbox.jupyter_port out for a free one",
            ) from error
        yield listening


@contextlib.contextmanager
def _locked(record: Record) -> Iterator[int]:
    """The record's lock, while the agent that inherits it is started."""
    lock = record.take_lock()
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def _machine_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"the sandbox could not be set up: {error}") from error
