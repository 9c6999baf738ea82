"""What every backend does. `local` is the reference; tests/backends holds all of them to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from runner.phases import Phase
from runner.record.run import RunState

if TYPE_CHECKING:  # httpx is slow to import, and a list of runs needs none of it
    from runner.plan import RunPlan
    from runner.session import Endpoint


@dataclass(frozen=True)
class Handle:
    """What a backend needs to find a run again; can be written down, holds no secret."""

    backend: str
    run_id: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """How a run stands.

    `state` is one of created, preparing, starting, running, ending, done,
    failed, bound, timeout, cancelled, interrupted; `reason` says in words
    what it waits for, or why it ended. `sandbox_alive` and `agent_alive` are
    what the backend sees of its two processes.
    """

    run_id: str
    state: str
    reason: str
    exit_status: int | None
    phases: tuple[Phase, ...]
    agent_alive: bool
    sandbox_alive: bool
    run: RunState


@dataclass(frozen=True)
class Selector:
    """Which runs to list; None selects all."""

    name: str | None = None
    state: str | None = None
    author: str | None = None


@dataclass(frozen=True)
class LogLine:
    """A line of a process of the run: `source` is prepare, sandbox or agent."""

    source: str
    text: str


class Backend(Protocol):
    """Starts a run's two processes, finds them again, and ends them.

    A run's record is there before `create` is called: inputs are taken from
    it. All calls work from another process than the one that created the run,
    and raise RunNotFound for a run that is not there, InfrastructureError
    when the machine or engine refuses.
    """

    def create(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Start the sandbox, and the agent if the plan has one. A half-made start is undone."""
        ...

    def render(self, plan: RunPlan) -> Mapping[str, Any]:
        """What `create` would start, as JSON data with secrets by name; starts nothing."""
        ...

    def resume(self, plan: RunPlan, secrets: Mapping[str, str]) -> Handle:
        """Go on with a run whose agent is gone: in its sandbox if that lives, else in a new one."""
        ...

    def attach(self, run_id: str) -> Handle:
        """Find a run again."""
        ...

    def list(self, selector: Selector) -> list[Status]:
        """The runs there are, the newest first."""
        ...

    def status(self, handle: Handle) -> Status:
        """How the run stands, in words."""
        ...

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[LogLine]:
        """What the run's processes print; with `follow` until they have ended."""
        ...

    def endpoint(self, handle: Handle) -> AbstractContextManager[Endpoint]:
        """A way to the sandbox server while the context lasts."""
        ...

    def stop(self, handle: Handle, grace_s: float) -> None:
        """End the run, keeping all that was made; after `grace_s` seconds by force."""
        ...

    def delete(self, handle: Handle) -> None:
        """Remove what the backend holds of the run, ending it first; the record stays."""
        ...
