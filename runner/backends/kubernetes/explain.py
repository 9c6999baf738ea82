"""How a run stands: its record and a snapshot in, a status out. Pure.

`causes` has the words for what holds it up, or ended it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.backends.base import Cause, Status, sweep_noted
from runner.backends.kubernetes import causes, scheduling
from runner.backends.kubernetes.kueue import QUEUE_LABEL
from runner.backends.kubernetes.snapshot import (
    CANCELLED,
    Container,
    Job,
    Pod,
    Snapshot,
    termination,
)
from runner.phases import Phase
from runner.record import writer
from runner.record.run import RunState

INFRASTRUCTURE = 3
STEPS = {"record": "filling", "clone": "cloning", "models": "fetching", "install": "installing"}
"""What each init container does, as a phase."""


@dataclass(frozen=True)
class Standing:
    """How a run stands, or how it ended: since when, and what mends it."""

    state: str
    reason: str = ""
    exit_status: int | None = None
    since: str | None = None
    mend: str = ""


def describe(run: RunState, snap: Snapshot) -> Status:
    """How a run stands, out of its record and what the cluster says of it."""
    begun = tuple(phases(snap, after=run.ended or ""))
    sandbox = snap.pod.container("sandbox") if snap.pod and not snap.pod.over else None
    up = sandbox is not None and sandbox.state == "running"
    stands = _stands(run, snap, begun)
    # A sandbox that is about to come counts: whoever waits for it goes on waiting.
    coming = snap.alive and (snap.pod is None or not snap.pod.over) and _started(snap) is None
    return Status(
        run.run_id,
        stands.state,
        stands.reason,
        stands.exit_status,
        begun or _recorded(run),
        snap.alive and _agent_on(run, snap),
        up or coming,
        run,
        since=stands.since,
        mend=stands.mend,
    )


def end_of(run: RunState, snap: Snapshot) -> Standing | None:
    """How the last attempt ended, as far as the cluster knows; None while it goes on."""
    if snap.alive and not _done(snap):
        return None
    if snap.job is None:
        return Standing("interrupted", f"its Job is gone; {_resume(run)}", None)
    if words := snap.job.annotations.get(CANCELLED):
        return Standing("cancelled", words, 130)
    if snap.job.suspended:
        return Standing("interrupted", _never_released(run), None)
    main = _main(snap.pod)
    said = termination(main)
    # Kubelet gives the agent of a pod that it evicts one second, and then kills it: with a last
    # word or without, the run has ended in the same way.
    if (taken := _taken_away(snap)) and said.get("state", "interrupted") == "interrupted":
        return taken
    if said:
        return Standing(said["state"], said.get("reason", ""), said.get("exit_status"))
    if not run.plan.get("agent", True) and main and main.succeeded:
        return Standing("done", "the sandbox has ended", 0)
    cause = causes.ended(snap, main)
    return Standing("failed", cause.words, INFRASTRUCTURE, mend=cause.mend)


def last_head(agent: Container | None) -> str | None:
    """The head of the transcript that the agent named with its last words."""
    head = (termination(agent).get("transcript") or {}).get("head")
    return str(head) if head else None


def phases(snap: Snapshot, after: str = "") -> Iterator[Phase]:
    """What happened before the kernel was ready, as the cluster tells it.

    A Job whose pod was taken away waits for another one since `after`, the end of the first.
    """
    job, pod = snap.job, snap.pod
    if job is None:
        return
    if pod is None:
        if snap.alive:
            since = max(job.created, after)
            yield Phase("queued", since, None, causes.queued(snap).words)
        return
    if job.queue:
        yield Phase("queued", job.created, pod.created)
    if pod.scheduled is None and not pod.over:
        yield Phase("scheduling", pod.created, None, scheduling.cause(snap).words)
        return
    yield Phase("scheduling", pod.created, pod.scheduled or pod.created)
    first = next((item.started for item in pod.containers if item.started), None)
    held = _held(pod)
    yield Phase(
        "creating",
        pod.scheduled or pod.created,
        first,
        "" if first else causes.creating(snap).words,
        held.words if held and first is None else "",
    )
    for item in pod.containers:
        if item.kind == "init" and item.started and item.name in STEPS:
            # A step that failed leaves its words, and the agent to end the run with them.
            failure = causes.how(item) if item.finished and not item.succeeded else item.message
            yield Phase(STEPS[item.name], item.started, item.finished, "", failure)
    if first and held:
        yield Phase("creating", first, None, "", held.words)


def cancelled(words: str) -> dict[str, Any]:
    """The patch of a Job that cancels it while its agent cannot be told: its pods end.

    Without the label Kueue lets go of it; with it, it would be admitted again.
    """
    gone = {"annotations": {CANCELLED: words}, "labels": {QUEUE_LABEL: None}}
    return {"metadata": gone, "spec": {"suspend": True}}


def annotated(job: Job) -> RunState:
    """What a Job tells of its run, where the record is not at hand."""
    notes = job.annotations
    plan = {
        "agent": notes.get("runner/agent") != "false",
        "sweep": sweep_noted(notes.get("runner/sweep")),
    }
    return RunState(
        run_id=job.run_id,
        name=notes.get("runner/experiment", ""),
        backend="kubernetes",
        author=notes.get("runner/owner"),
        model=notes.get("runner/model", ""),
        state="created",
        created=notes.get("runner/created", job.created),
        plan=plan,
    )


# -- how it stands -------------------------------------------------------------------------


def _stands(run: RunState, snap: Snapshot, begun: Sequence[Phase]) -> Standing:
    end = end_of(run, snap)
    if end is not None:
        # The record is the truth; the cluster speaks where the record does not.
        if run.is_over and (snap.job is None or run.attempts >= 1) and not newer(run, snap):
            return _recorded_end(run, snap)
        return end
    fails = run.plan.get("experiment", {}).get("sandbox", {}).get("on_disruption") == "fail"
    # What the API has of a pod whose node is silent may be from before it ran.
    trouble = causes.troubled(snap, goes_on=not fails)
    phase, cause = _waiting(snap, begun)
    if phase is not None and trouble is None:
        words = phase.failure or f"{phase.name}: {phase.detail}".rstrip(": ")
        state = "created" if phase.name == "queued" else "preparing"
        return Standing(state, words, since=cause.since or phase.started, mend=cause.mend)
    trouble = trouble or causes.restarted(snap) or Cause(run.reason)
    if not run.plan.get("agent", True):
        state = "running" if _started(snap) else "preparing"
    elif run.state in ("starting", "running", "ending") and not run.is_over:
        state = run.state
    else:
        state = "starting" if _started(snap) else "preparing"
    return Standing(state, trouble.words, since=trouble.since, mend=trouble.mend)


def _recorded_end(run: RunState, snap: Snapshot) -> Standing:
    """How the record ended; who told its pod to leave, only the cluster knows."""
    taken = _taken_away(snap) if run.state == "interrupted" else None
    return taken or Standing(run.state, run.reason, run.exit_status)


def _taken_away(snap: Snapshot) -> Standing | None:
    cause = causes.taken_away(snap.pod) if snap.pod else None
    if cause is None:
        return None
    return Standing("interrupted", cause.words, writer.LEFT, mend=cause.mend)


def _waiting(snap: Snapshot, begun: Sequence[Phase]) -> tuple[Phase | None, Cause]:
    """The phase before the kernel's that goes on, and what holds it up."""
    phase = next((phase for phase in reversed(begun) if not phase.ended), None)
    if phase is None or snap.pod is None:
        return phase, causes.queued(snap)
    if phase.name == "scheduling":
        return phase, scheduling.cause(snap)
    return phase, _held(snap.pod) or causes.creating(snap)


def _held(pod: Pod) -> Cause | None:
    """What keeps one of its containers from being made."""
    return next((cause for item in pod.containers if (cause := causes.stuck(item))), None)


def newer(run: RunState, snap: Snapshot) -> bool:
    """Say whether the end in the record is that of an earlier Job, which this one goes on from."""
    return bool(snap.job and run.ended and run.ended[:19] < snap.job.created[:19])


def _done(snap: Snapshot) -> bool:
    """Whether the last pod did what it was to do; one that was taken away gets a successor.

    Kueue takes pods away without calling it a disruption.
    """
    main = _main(snap.pod)
    if snap.pod is None or main is None or snap.pod.disrupted or snap.pod.deleting:
        return False
    return main.state == "terminated" or snap.pod.over


def _agent_on(run: RunState, snap: Snapshot) -> bool:
    return bool(run.plan.get("agent", True)) and not _done(snap)


def _started(snap: Snapshot) -> str | None:
    sandbox = snap.pod.container("sandbox") if snap.pod else None
    return sandbox.started if sandbox and sandbox.state != "waiting" else None


def _main(pod: Pod | None) -> Container | None:
    return next((item for item in pod.containers if item.kind == "main"), None) if pod else None


# -- words ---------------------------------------------------------------------------------


def _never_released(run: RunState) -> str:
    return (
        "never released: its `submit` is at work, or was killed; "
        f"`runner delete {run.run_id}` removes it, `runner resume {run.run_id}` starts it"
    )


def _resume(run: RunState) -> str:
    return f"`runner resume {run.run_id}` goes on from the record"


def _recorded(run: RunState) -> tuple[Phase, ...]:
    """The phases of the last sandbox's start, where its pod is gone."""
    return tuple(
        Phase(phase["name"], phase["started"], phase["ended"])
        for phase in run.phases
        if phase["of"] == "sandbox"
    )
