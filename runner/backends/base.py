"""What every backend does. `local` is the reference; tests/backends holds all of them to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import InfrastructureError
from runner.phases import Phase
from runner.record.run import RunState

if TYPE_CHECKING:  # httpx is slow to import, and a list of runs needs none of it
    from runner.config.experiment import Experiment
    from runner.plan import PlannedImages, RunPlan
    from runner.secrets import SecretValues
    from runner.session import Endpoint

Progress = Callable[[str], None]
"""Told what is being looked up."""


@dataclass(frozen=True)
class Resolved:
    """What a backend looked up for an experiment, before anything starts.

    `python` is the version of the kernel's Python, `packages` are pins, `gpus`
    UUIDs where the backend picks them itself. `secrets` has the values that
    the client has to bring; none where the backend has them. `clones` says that it
    clones with credentials of its own, which may read what this machine may not. `hub`
    is the URL that it fetches models from, and without this user's login; None for a
    backend that fetches them as this user does. `gpu_idle_timeout` is the lab's, in seconds.
    """

    python: str
    packages: tuple[str, ...]
    secrets: SecretValues
    gpus: tuple[str, ...] = ()
    images: PlannedImages | None = None
    gpu_hour_usd: float | None = None
    gpu_idle_timeout: float | None = None
    clones: bool = False
    hub: str | None = None


@dataclass(frozen=True)
class Handle:
    """What a backend needs to find a run again; can be written down, holds no secret."""

    backend: str
    run_id: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cause:
    """Why a run waits or goes wrong: in words, since when, and what mends it."""

    words: str
    mend: str = ""
    since: str | None = None


@dataclass(frozen=True)
class Status:
    """How a run stands.

    `state` is one of created, preparing, starting, running, ending, done,
    failed, bound, timeout, cancelled, interrupted; `reason` says in words
    what it waits for, or why it ended, `since` since when it waits so, `mend` what
    to do about it. `sandbox_alive` and `agent_alive` are what the backend sees of
    its two processes.
    """

    run_id: str
    state: str
    reason: str
    exit_status: int | None
    phases: tuple[Phase, ...]
    agent_alive: bool
    sandbox_alive: bool
    run: RunState
    since: str | None = None
    mend: str = ""


@dataclass(frozen=True)
class Selector:
    """Which runs to list; None selects all."""

    name: str | None = None
    state: str | None = None
    author: str | None = None
    sweep: str | None = None


def alone(run: RunState) -> bool:
    """Whether nobody writes down how the run stands: a sandbox that no agent or script drives."""
    return not run.plan.get("agent", True) and not run.attempts


def no_sandbox(run: RunState) -> InfrastructureError:
    """What whoever wants to reach a sandbox is told that is not there."""
    again = (
        ""
        if run.attempts and not run.plan.get("agent", True)
        else (f"; `runner resume {run.run_id}` starts another one")
    )
    return InfrastructureError(
        f"the sandbox of {run.run_id} has ended, or was never started",
        hint=f"`runner fetch {run.run_id}` has all that was made{again}",
    )


def sweep_of(run: RunState) -> Mapping[str, Any]:
    """Which run of a sweep it is, as its plan says; empty for one that is of none."""
    return run.plan.get("sweep") or {}


def sweep_noted(note: str | None) -> dict[str, Any] | None:
    """The same out of what was noted on the run's objects, over which anybody may have written."""
    try:
        part = json.loads(note or "null")
        return {key: part[key] for key in ("id", "number", "of", "values")} if part else None
    except (ValueError, KeyError, TypeError):
        return None


def selected(found: Iterable[Status], selector: Selector) -> list[Status]:
    """Those that the selector wants, the newest first."""
    wanted = [
        status
        for status in found
        if selector.name in (None, status.run.name)
        and selector.state in (None, status.state)
        and selector.author in (None, status.run.author)
        and selector.sweep in (None, sweep_of(status.run).get("id"))
    ]
    return sorted(
        wanted, key=lambda status: (status.run.created or "", status.run_id), reverse=True
    )


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

    def resolve(
        self,
        experiment: Experiment,
        *,
        agent: bool,
        folders: Sequence[Path],
        file: str,
        progress: Progress,
    ) -> Resolved:
        """Refuse what cannot be had here, and look up what the plan needs; starts nothing.

        `folders` are where `.env` files may be, `file` what errors name. Raises
        UsageError and ConfigError for what the user can mend.
        """
        ...

    def allowed(self, plan: RunPlan, *, folders: Sequence[Path], file: str) -> Resolved:
        """The same for a plan whose packages and images are resolved already, from a record."""
        ...

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

    def sync(self, handle: Handle, *, patience_s: float | None = None) -> None:
        """Bring the record on this machine up to date, where the run writes it elsewhere.

        `patience_s` is how long a place that has it may take to start, if less than usual.
        Raises RunNotFound where there is no record of that run.
        """
        ...

    def bring_withheld(self, handle: Handle) -> None:
        """Bring outputs that were set aside, as they hold a secret, into the record here."""
        ...

    def following(self, handle: Handle) -> AbstractContextManager[None]:
        """Keep the record on this machine up to date while the context lasts."""
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

    def keep(self, handle: Handle) -> None:
        """Put the record that a script has written here where this backend keeps records.

        Raises InfrastructureError where it cannot; it stays here.
        """
        ...

    def delete(self, handle: Handle) -> None:
        """Remove what the backend holds of the run, ending it first; the record stays."""
        ...

    def delete_record(self, handle: Handle) -> None:
        """Remove the record of a run that was deleted, wherever it is."""
        ...
