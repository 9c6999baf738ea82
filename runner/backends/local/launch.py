"""Starting the two processes of a local run."""

from __future__ import annotations

import contextlib
import json
import os
import secrets as random_secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner import locks
from runner.agent.options import AgentOptions
from runner.backends.base import Handle
from runner.backends.local import commands, environment, processes
from runner.backends.local.paths import Paths
from runner.errors import InfrastructureError, UsageError
from runner.plan import RunPlan
from runner.record import Record, read_lines
from runner.record.times import spent_s

NAME = "local"


def start(
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
            _write_handle(paths, data)
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
        _write_handle(paths, data)
        handle = Handle(NAME, plan.run_id, data)
        if not plan.agent:
            return handle
        return start_agent(plan, secrets, paths, record, lock, handle, reason)
    except BaseException:
        if sandbox is not None:
            processes.undo(sandbox)
        raise
    finally:
        os.close(held)


def start_agent(
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
        _write_handle(paths, data)
    except BaseException:
        processes.undo(agent)
        raise
    return Handle(NAME, plan.run_id, data)


def read_handle(paths: Paths) -> dict[str, str]:
    """What is known of the processes; empty where none was started."""
    try:
        data: dict[str, str] = json.loads(paths.handle.read_text())
    except FileNotFoundError:
        return {}
    return data


def _write_handle(paths: Paths, data: Mapping[str, str]) -> None:
    part = paths.handle.with_suffix(".part")
    part.write_text(json.dumps(data))
    part.replace(paths.handle)


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
