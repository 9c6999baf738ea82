"""GuestRun: a run that somebody else drives, in whose sandbox a script works too."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runner.api.driven import say
from runner.backends.base import Backend, Handle, Status, no_sandbox
from runner.backends.starting import READY_S, Starting
from runner.errors import UsageError
from runner.plan import RunPlan
from runner.session import RECONNECT_S, Session
from runner.settings import Settings

GRACE_S = 30.0
"""For whoever drives it to collect what was made, when it is ended."""


class GuestRun:
    """Its record is written by its own agent or script: cells and files of the guest are in it."""

    def __init__(
        self, settings: Settings, backend: Backend, handle: Handle, status: Status
    ) -> None:
        """Connect to its sandbox, once it is ready; InfrastructureError where it has ended."""
        if not status.sandbox_alive:
            raise no_sandbox(status.run)
        self.settings, self._backend, self._handle = settings, backend, handle
        self.plan = RunPlan.model_validate(status.run.plan)
        self.path = Path(settings.runs).absolute() / handle.run_id
        self._open = contextlib.ExitStack()
        try:
            self._endpoint = self._open.enter_context(backend.endpoint(handle))
            self.session = self._open.enter_context(Session(self._endpoint))
            deadline_s = self.plan.prepare_deadline_s + self.plan.start_deadline_s + READY_S
            Starting(backend, handle, say).connect(self.session, deadline_s)
        except BaseException:
            self._open.close()
            raise

    @property
    def answering(self) -> Session:
        """The client of its server."""
        return self.session

    def beside(self, reconnect_s: float = RECONNECT_S) -> Session:
        """Another session, for what goes on beside the script; closed when the guest leaves."""
        session = Session(self._endpoint, reconnect_s=reconnect_s)
        session.boot = self.session.boot
        return self._open.enter_context(session)

    def leave(self) -> None:
        """Let go of it; it goes on."""
        self._open.close()

    def end(self) -> None:
        """End the run, as `runner cancel` does."""
        self.leave()
        self._backend.stop(self._handle, GRACE_S)


def not_driven(run: GuestRun) -> UsageError:
    """What a guest is told that wants what only who drives a run can have."""
    return UsageError(
        f"{run.plan.run_id} is driven by somebody else, who has its record: an agent and functions "
        "that are served need a sandbox of this script",
        hint="a sandbox by its id has cells, commands, files and snapshots; its own agent hears "
        f"`runner attach --chat {run.plan.run_id}`",
    )
