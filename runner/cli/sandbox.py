"""A session with the sandbox of a run, once it is ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.backends.base import Handle, Status
from runner.cli.context import Cli
from runner.cli.watch import waiting
from runner.errors import InfrastructureError
from runner.session import Session

READY_S = 10.0


@contextmanager
def connected(cli: Cli, handle: Handle, status: Status) -> Iterator[Session]:
    """Wait until the sandbox is ready, saying what for; a session while the context lasts.

    Waits for as long as its start may take. Raises SandboxUnreachable after that, and
    InfrastructureError as soon as the sandbox has ended.
    """
    told = ""

    def check() -> None:
        nonlocal told
        now = cli.engine.status(handle)
        if not now.sandbox_alive:
            failure = next((p.failure for p in now.phases if p.failure), "")
            raise InfrastructureError(
                f"the sandbox of {handle.run_id} ended before it was ready {failure}".strip(),
                hint=cli.command("logs", handle.run_id, "--processes"),
            )
        name = now.phases[-1].name if now.phases else ""
        if waiting(now) and name != told:
            told = name
            cli.note(f"waiting for the sandbox: {waiting(now)}")

    plan = status.run.plan
    deadline_s = READY_S
    if not status.run.started:
        deadline_s += plan.get("prepare_deadline_s", 0.0) + plan.get("start_deadline_s", 0.0)
    with cli.engine.endpoint(handle) as endpoint, Session(endpoint) as session:
        session.connect(deadline_s, check)
        yield session
