"""A session with the sandbox of a run, once it is ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.backends.base import Handle, Status
from runner.backends.starting import READY_S, Starting
from runner.cli.context import Cli
from runner.session import Session


@contextmanager
def connected(cli: Cli, handle: Handle, status: Status) -> Iterator[Session]:
    """Wait until the sandbox is ready, saying what for; a session while the context lasts.

    Waits for as long as its start may take. Raises SandboxUnreachable after that, and
    InfrastructureError as soon as the sandbox has ended.
    """
    plan = status.run.plan
    deadline_s = READY_S
    if not status.run.started:
        deadline_s += plan.get("prepare_deadline_s", 0.0) + plan.get("start_deadline_s", 0.0)
    with cli.engine.endpoint(handle) as endpoint, Session(endpoint) as session:
        Starting(cli.engine, handle, cli.note).connect(session, deadline_s)
        yield session
