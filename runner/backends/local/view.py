"""How a local run stands, from its record and from which processes live. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runner.backends.base import Status, alone
from runner.backends.driven import deserted, driven
from runner.phases import Phase
from runner.record.run import RunState

FAILED = 3


def describe(run: RunState, phases: Sequence[Phase], *, agent: bool, sandbox: bool) -> Status:
    """The status in words."""
    shown = tuple(phases) or _recorded(run)
    if alone(run):
        state, reason, exit_status = _alone(shown, sandbox=sandbox)
    elif not agent and not run.is_over:
        state, reason, exit_status = "interrupted", _deserted(run, sandbox=sandbox), None
    else:
        state, reason, exit_status = run.state, run.reason, run.exit_status
        if agent and state in ("created", "preparing") and shown:
            now = shown[-1]
            state, reason = "preparing", now.failure or f"{now.name} {now.detail}".strip()
    return Status(run.run_id, state, reason, exit_status, shown, agent, sandbox, run)


def _alone(phases: Sequence[Phase], *, sandbox: bool) -> tuple[str, str, int | None]:
    """A sandbox without an agent: nobody writes down how it stands."""
    last = phases[-1] if phases else None
    if last and last.failure:
        return "failed", f"{last.name} failed: {last.failure}", FAILED
    if not sandbox:
        return "done", "the sandbox has ended", 0
    if last and not last.ended:
        return "preparing", f"{last.name} {last.detail}".strip(), None
    return "running", "", None


def _deserted(run: RunState, *, sandbox: bool) -> str:
    if not run.attempts:
        return (
            f"nobody drives it: its `submit` is still at work, or was killed; "
            f"`runner resume {run.run_id}` starts it, `runner delete {run.run_id}` removes it"
        )
    if driven(run):
        return deserted(run, sandbox=sandbox)
    where = "its sandbox still runs" if sandbox else "its sandbox has ended"
    return f"the agent's processes are gone ({where}); `runner resume {run.run_id}` goes on"


def _recorded(run: RunState) -> tuple[Phase, ...]:
    """The phases of the last sandbox's start, where its directory is gone."""
    return tuple(
        Phase(phase["name"], phase["started"], phase["ended"])
        for phase in run.phases
        if phase["of"] == "sandbox"
    )
