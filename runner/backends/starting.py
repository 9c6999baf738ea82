"""Waiting for a sandbox that starts, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runner.backends.base import Backend, Handle, Status
from runner.backends.patience import Patience
from runner.errors import InfrastructureError
from runner.session import Session

READY_S = 10.0
"""Beyond the deadlines of its preparation and its kernel."""
LOOK_S = 0.5
_FOR_ROOM = ("queued", "scheduling")


class Starting:
    """Looks at a sandbox until it is ready; `say` is told what it waits for, each thing once."""

    def __init__(self, backend: Backend, handle: Handle, say: Callable[[str], None]) -> None:
        """Nothing is looked at yet."""
        self._backend, self._handle, self._say = backend, handle, say
        self._patience = Patience(say)
        self._said: set[str] = set()
        self._look_at = 0.0
        self._for_room = True  # as far as is known

    def connect(
        self, session: Session, deadline_s: float, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """What the server says of itself, once its kernel is ready.

        `check` is called while it waits and may raise. A sandbox that waits for room in a cluster
        is waited for; then it has `deadline_s` seconds. Raises SandboxUnreachable after that, and
        InfrastructureError as soon as it is seen that it will not come.
        """

        def look() -> None:
            check()
            self._look()

        look()
        while self._for_room:
            time.sleep(LOOK_S)
            look()
        return session.connect(deadline_s, look)

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        status = self._patience.look(lambda: self._backend.status(self._handle))
        self._look_at = time.monotonic() + LOOK_S
        if status is None:
            return
        _refuse_gone(status)
        phase = status.phases[-1] if status.phases and not status.phases[-1].ended else None
        self._for_room = phase is not None and phase.name in _FOR_ROOM
        if phase is not None:
            words = f"{phase.name} {phase.failure or phase.detail}".rstrip()
            # Of what comes in steps, such as packages, the first one is told.
            what = words if self._for_room or phase.failure else phase.name
            self._tell(what, f"waiting for the sandbox: {words}")
        if status.mend:
            self._tell(status.mend, f"{status.reason}\n→ {status.mend}")

    def _tell(self, what: str, words: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._say(words)


def _refuse_gone(status: Status) -> None:
    """Raise where it is gone; what failed and is tried again, such as an image's pull, is not."""
    failure = next((f"{p.name} failed: {p.failure}" for p in status.phases if p.failure), "")
    if not status.sandbox_alive:
        raise InfrastructureError(
            failure or f"the sandbox ended before it was ready: {status.reason}",
            hint=status.mend or f"runner logs {status.run_id} --processes",
        )
