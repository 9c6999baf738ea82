"""How a run stands, out of its record and of what the engine says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.backends.base import Status, sweep_noted
from runner.backends.docker.snapshot import Container, Snapshot
from runner.phases import Phase, failed
from runner.record.run import RunState

NAME = "docker"
INFRASTRUCTURE = 3
STARTING_S = 120.0
"""How long after it made a container a client may take to start it."""
TOLD = 128 + 15
_STATES = {0: "done", 1: "failed", 3: "failed", 4: "bound", 124: "timeout", 130: "cancelled"}
"""What the exit status of an agent that ended by itself says of its run."""
_KILLED = {137: "SIGKILL", 143: "SIGTERM"}


@dataclass(frozen=True)
class End:
    """How a run ended that did not say so itself; `exit_status` None where it can go on."""

    state: str
    reason: str
    exit_status: int | None


def describe(run: RunState, snap: Snapshot, phases: Sequence[Phase]) -> Status:
    """How a run stands. `phases` are those of the sandbox that is there."""
    shown = tuple(phases) or _recorded(run)
    main, sandbox = snap.main, snap.get("sandbox")
    agent = main is not None and main.step == "agent" and main.runs
    state, reason, code = _stands(run, snap, shown)
    up = sandbox is not None and sandbox.runs
    return Status(run.run_id, state, reason, code, shown, agent, up, run)


def end_of(run: RunState, snap: Snapshot, phases: Sequence[Phase]) -> End | None:
    """How the run ended, as far as the engine knows; None while it goes on."""
    main = snap.main
    if main is None:
        return End("interrupted", f"its containers are gone; {_resume(run)}", None)
    if main.runs:
        return None
    if not main.over:
        words = (
            "never started: its `submit` is at work, or was killed; "
            f"`runner delete {run.run_id}` removes it, `runner resume {run.run_id}` starts it"
        )
        return End("interrupted", main.error or words, None)
    if main.step == "sandbox":
        return _alone(main, phases)
    if main.oom_killed and main.exit_code:
        return End("failed", f"the agent's container {_memory(main)}", INFRASTRUCTURE)
    if state := _STATES.get(main.exit_code):
        words = f"the agent ended with exit status {main.exit_code}; `runner status` may say why"
        return End(state, words, main.exit_code)
    words = f"the agent's container ended without a word ({_ended(main)}); {_resume(run)}"
    return End("interrupted", words, None)


def is_starting(snap: Snapshot, now: datetime) -> bool:
    """Whether a client may be at work on these containers, of which none runs or has run."""
    newest = max((item.created for item in snap.containers), default="")
    if not newest or any(item.started for item in snap.containers):
        return False
    return (now - datetime.fromisoformat(newest)).total_seconds() < STARTING_S


def annotated(snap: Snapshot) -> RunState:
    """What containers tell of their run, where the record is not at hand."""
    labels, main = snap.labels, snap.main
    return RunState(
        run_id=labels.get("runner.run", ""),
        name=labels.get("runner.name", ""),
        backend=NAME,
        author=labels.get("runner.owner"),
        model=labels.get("runner.model", ""),
        state="created",
        created=labels.get("runner.created", ""),
        ended=main.finished if main and main.over else None,
        plan={
            "agent": labels.get("runner.alone") != "true",
            "sweep": sweep_noted(labels.get("runner.sweep")),
        },
    )


def has_phases(run: RunState, snap: Snapshot) -> bool:
    """Whether the record tells how the start of these very containers went."""
    recorded, main = _recorded(run), snap.main
    return bool(main and recorded and (recorded[-1].ended or "") > main.created)


def said_its_end(run: RunState, snap: Snapshot) -> bool:
    """Whether the end in the record is that of these containers, not of earlier ones."""
    main = snap.main
    earlier = bool(main and run.ended and main.created[:19] > run.ended[:19])
    return run.is_over and not earlier


def _stands(run: RunState, snap: Snapshot, phases: Sequence[Phase]) -> tuple[str, str, int | None]:
    end = end_of(run, snap, phases)
    if end is not None:
        # The record is the truth; the engine speaks where the record does not.
        if said_its_end(run, snap):
            return run.state, "; ".join(filter(None, [run.reason, _also(snap)])), run.exit_status
        return end.state, end.reason, end.exit_status
    now = phases[-1] if phases else None
    if now is not None and not now.ended:
        return "preparing", f"{now.name} {now.detail}".strip(), None
    if not run.plan.get("agent", True):
        return "running", "", None
    if run.state in ("starting", "running", "ending") and not run.is_over:
        return run.state, run.reason, None
    return "preparing" if now is None else "starting", "", None


def _also(snap: Snapshot) -> str:
    """What the agent could not see of its sandbox's end."""
    sandbox = snap.get("sandbox")
    if sandbox and sandbox.oom_killed and sandbox.over and sandbox.exit_code not in (0, TOLD):
        return f"the sandbox's container {_memory(sandbox)}"
    return ""


def _alone(main: Container, phases: Sequence[Phase]) -> End:
    if phase := failed(phases):
        return End("failed", f"{phase.name} failed: {phase.failure}", INFRASTRUCTURE)
    if main.exit_code in (0, TOLD):
        return End("done", "the sandbox has ended", 0)
    if main.oom_killed:
        return End("failed", f"the sandbox's container {_memory(main)}", INFRASTRUCTURE)
    words = f"the sandbox's container ended: {_ended(main)}; `runner logs` says more"
    return End("failed", words, INFRASTRUCTURE)


def _memory(item: Container) -> str:
    limit = f"its limit of {item.memory / 2**30:.1f} GiB" if item.memory else "its limit"
    return f"was out of memory (OOMKilled by the engine): it used more than {limit}"


def _ended(item: Container) -> str:
    """How a container ended."""
    how = _KILLED.get(item.exit_code, f"exit status {item.exit_code}")
    return f"{how}: {item.error}" if item.error else how


def _resume(run: RunState) -> str:
    return f"`runner resume {run.run_id}` goes on from the record"


def _recorded(run: RunState) -> tuple[Phase, ...]:
    """The phases of the last sandbox's start, where its containers are gone."""
    return tuple(
        Phase(phase["name"], phase["started"], phase["ended"])
        for phase in run.phases
        if phase["of"] == "sandbox"
    )
