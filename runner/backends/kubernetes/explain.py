"""Why a run waits, or how it ended, in words: a snapshot in, a status out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.backends.base import Status
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
from runner.record.run import RunState

INFRASTRUCTURE = 3
STEPS = {"record": "filling", "clone": "cloning", "models": "fetching", "install": "installing"}
"""What each init container does, as a phase."""
_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_KILLED = {137: "SIGKILL", 143: "SIGTERM"}


@dataclass(frozen=True)
class End:
    """How a run ended that did not say so itself."""

    state: str
    reason: str
    exit_status: int | None


def describe(run: RunState, snap: Snapshot) -> Status:
    """How a run stands, out of its record and what the cluster says of it."""
    steps = tuple(phases(snap)) or _recorded(run)
    sandbox = snap.pod.container("sandbox") if snap.pod and not snap.pod.over else None
    up = sandbox is not None and sandbox.state == "running"
    state, reason, code = _stands(run, snap)
    # A sandbox that is about to come counts: whoever waits for it goes on waiting.
    coming = snap.alive and (snap.pod is None or not snap.pod.over) and _started(snap) is None
    return Status(
        run.run_id,
        state,
        reason,
        code,
        steps,
        snap.alive and _agent_on(run, snap),
        up or coming,
        run,
    )


def end_of(run: RunState, snap: Snapshot) -> End | None:
    """How the last attempt ended, as far as the cluster knows; None while it goes on."""
    if snap.alive and not _done(snap):
        return None
    if snap.job is None:
        return End("interrupted", f"its Job is gone; {_resume(run)}", None)
    if words := snap.job.annotations.get(CANCELLED):
        return End("cancelled", words, 130)
    if snap.job.suspended:
        return End("interrupted", _never_released(run), None)
    main = _main(snap.pod)
    if said := termination(main):
        return End(said["state"], said.get("reason", ""), said.get("exit_status"))
    if not run.plan.get("agent", True) and main and main.succeeded:
        return End("done", "the sandbox has ended", 0)
    return End("failed", _cause(snap, main), INFRASTRUCTURE)


def last_head(agent: Container | None) -> str | None:
    """The head of the transcript that the agent named with its last words."""
    head = (termination(agent).get("transcript") or {}).get("head")
    return str(head) if head else None


def phases(snap: Snapshot) -> Iterator[Phase]:
    """What happened before the kernel was ready, as the cluster tells it."""
    job, pod = snap.job, snap.pod
    if job is None:
        return
    if pod is None:
        if snap.alive:
            yield Phase("queued", job.created, None, _queued(snap))
        return
    if job.queue:
        yield Phase("queued", job.created, pod.created)
    if pod.scheduled is None and not pod.over:
        yield Phase("scheduling", pod.created, None, pod.unscheduled)
        return
    yield Phase("scheduling", pod.created, pod.scheduled or pod.created)
    inits = [item for item in pod.containers if item.kind == "init"]
    first = next((item.started for item in pod.containers if item.started), None)
    stuck = next((item for item in pod.containers if _stuck(item)), None)
    yield Phase(
        "creating",
        pod.scheduled or pod.created,
        first,
        "" if first else _creating(snap),
        _stuck(stuck) if stuck and first is None else "",
    )
    for item in inits:
        if item.started and item.name in STEPS:
            # A step that failed leaves its words, and the agent to end the run with them.
            failure = _ended(item) if item.finished and not item.succeeded else item.message
            yield Phase(STEPS[item.name], item.started, item.finished, "", failure)
    if first and stuck:
        yield Phase("creating", first, None, stuck.name, _stuck(stuck))


def cancelled(words: str) -> dict[str, Any]:
    """The patch of a Job that cancels it while its agent cannot be told: its pods end.

    Without the label Kueue lets go of it; with it, it would be admitted again.
    """
    gone = {"annotations": {CANCELLED: words}, "labels": {QUEUE_LABEL: None}}
    return {"metadata": gone, "spec": {"suspend": True}}


def annotated(job: Job) -> RunState:
    """What a Job tells of its run, where the record is not at hand."""
    notes = job.annotations
    plan = {"agent": notes.get("runner/agent") != "false"}
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


def _stands(run: RunState, snap: Snapshot) -> tuple[str, str, int | None]:
    end = end_of(run, snap)
    if end is not None:
        # The record is the truth; the cluster speaks where the record does not.
        if run.is_over and (snap.job is None or run.attempts >= 1) and not newer(run, snap):
            return run.state, run.reason, run.exit_status
        return end.state, end.reason, end.exit_status
    waiting = next((phase for phase in reversed(list(phases(snap))) if not phase.ended), None)
    if waiting is not None:
        words = waiting.failure or f"{waiting.name}: {waiting.detail}".rstrip(": ")
        return ("created" if waiting.name == "queued" else "preparing"), words, None
    if not run.plan.get("agent", True):
        return ("running" if _started(snap) else "preparing"), "", None
    if run.state in ("starting", "running", "ending") and not run.is_over:
        return run.state, run.reason, None
    return "starting", "", None


def newer(run: RunState, snap: Snapshot) -> bool:
    """Say whether the end in the record is that of an earlier Job, which this one goes on from."""
    return bool(snap.job and run.ended and run.ended[:19] < snap.job.created[:19])


def _done(snap: Snapshot) -> bool:
    """Whether the last pod did what it was to do; one that was disrupted gets a successor."""
    main = _main(snap.pod)
    if snap.pod is None or main is None or snap.pod.disrupted:
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


def _queued(snap: Snapshot) -> str:
    if snap.job and snap.job.suspended and snap.job.queue:
        return snap.queued or f"in the queue {snap.job.queue}"
    refused = [event for event in snap.events if event.reason == "FailedCreate"]
    return refused[-1].message if refused else "the Job's pod is being made"


def _creating(snap: Snapshot) -> str:
    """What the kubelet is at: pulling an image, mounting a volume."""
    pod = snap.pod
    news = [event for event in snap.events if pod and event.about == pod.name]
    for event in sorted(news, key=lambda event: event.time, reverse=True):
        if event.reason in (
            "Pulling",
            "FailedMount",
            "FailedAttachVolume",
            "FailedCreatePodSandBox",
        ):
            return event.message
        if event.reason in ("Pulled", "Created", "Started"):
            break
    return f"on node {pod.node}" if pod and pod.node else ""


def _stuck(item: Container) -> str:
    """Why a container cannot be made as it is; empty where it can."""
    if item.state != "waiting" or item.reason not in (*_PULLING, *_CONFIG, "CrashLoopBackOff"):
        return ""
    if item.reason in _PULLING:
        # The engine says the image's name again in each of its causes.
        cause = item.message.rpartition(f"{item.image}: ")[2]
        return f"image {item.image} cannot be pulled ({item.reason}): {_short(cause)}"
    if item.reason == "CrashLoopBackOff":
        return f"container {item.name} ends again and again: {item.last}"
    return f"container {item.name} cannot be made ({item.reason}): {_short(item.message)}"


def _cause(snap: Snapshot, main: Container | None) -> str:
    """Why an attempt ended without the agent's own words."""
    pod, job = snap.pod, snap.job
    if pod is not None:
        if pod.reason == "Evicted":
            return f"the pod was evicted: {pod.message}"
        if pod.reason == "DeadlineExceeded":
            return f"the pod was ended by its deadline: {pod.message}"
        if pod.disrupted:
            return f"the pod was disrupted: {pod.disrupted}"
        for item in pod.containers:
            if item.kind == "init" and item.state == "terminated" and not item.succeeded:
                return f"container {item.name} failed: {_ended(item)}"
        if stuck := next((words for item in pod.containers if (words := _stuck(item))), ""):
            return stuck
        if main and main.state == "terminated":
            return f"container {main.name} ended without a word: {_ended(main)}"
        if pod.message:
            return f"{pod.reason}: {pod.message}".lstrip(": ")
    if job is not None and job.message:
        return f"{job.reason}: {job.message}".lstrip(": ")
    return "its pod is gone"


def _ended(item: Container) -> str:
    """How a container ended."""
    if item.reason == "OOMKilled":
        return "out of memory (OOMKilled): it used more than its limit"
    said = _short(item.message)
    code = _KILLED.get(item.exit_code or 0, f"exit status {item.exit_code}")
    return f"{code}{f': {said}' if said else ''}"


def _short(text: str, most: int = 600) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= most else f"{text[:most]}…"


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
