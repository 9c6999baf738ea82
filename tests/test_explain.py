"""What is said of a run out of what the API server says of its Job and pod."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runner.backends.kubernetes import explain, kueue
from runner.backends.kubernetes.snapshot import Event, Snapshot, job_of, last, pod_of
from runner.record.run import RunState

T = "2026-11-24T03:00:0{}Z"
UNPULLED = (
    'failed to pull and unpack image "base": failed to resolve reference "base": base: not found'
)
RUN = RunState(
    run_id="r", state="created", created="2026-11-24T03:00:00.000Z", plan={"agent": True}
)


def job(number: int = 1, conditions: list[dict[str, Any]] | None = None, **spec: Any) -> Any:
    return job_of(
        {
            "metadata": {
                "name": f"r-{number}",
                "uid": f"job-{number}",
                "creationTimestamp": T.format(0),
                "labels": {
                    "runner/run": "r",
                    "runner/attempt": str(number),
                    **spec.pop("labels", {}),
                },
                "annotations": spec.pop("annotations", {}),
            },
            "spec": spec,
            "status": {"conditions": conditions or []},
        }
    )


def state(name: str, **words: Any) -> dict[str, Any]:
    return {name: words}


def pod(states: dict[str, Any] | None = None, phase: str = "Pending", **status: Any) -> Any:
    """A pod with the containers of a run; `states` of those that have one."""
    made = {name: {"name": name, "state": now} for name, now in (states or {}).items()}
    inits = ("record", "clone", "install", "sandbox")
    return pod_of(
        {
            "metadata": {"name": "r-1-abc", "uid": "u", "creationTimestamp": T.format(1)},
            "spec": {
                "nodeName": status.pop("node", "lab"),
                "initContainers": [
                    {"name": name, "image": "base", "restartPolicy": "Always"}
                    if name == "sandbox"
                    else {"name": name, "image": "base"}
                    for name in inits
                ],
                "containers": [{"name": "agent", "image": "agents"}],
            },
            "status": {
                "phase": phase,
                "conditions": status.pop(
                    "conditions",
                    [
                        {
                            "type": "PodScheduled",
                            "status": "True",
                            "lastTransitionTime": T.format(2),
                        }
                    ],
                ),
                "initContainerStatuses": [made[name] for name in inits if name in made],
                "containerStatuses": [made["agent"]] if "agent" in made else [],
                **status,
            },
        }
    )


DONE = state(
    "terminated", exitCode=0, reason="Completed", startedAt=T.format(3), finishedAt=T.format(4)
)
UP = state("running", startedAt=T.format(5))
UNSCHEDULED = [
    {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }
]


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    times = {"startedAt": T.format(5), "finishedAt": T.format(6)}
    return state("terminated", exitCode=code, message=message, reason=reason, **times)


def said(**words: Any) -> str:
    return json.dumps(
        {"state": "done", "reason": "the agent ended the run", "exit_status": 0, **words}
    )


@pytest.mark.parametrize(
    ("snap", "expected", "words"),
    [
        (Snapshot(job(suspend=True)), "interrupted", "never released"),
        (
            Snapshot(job(suspend=True, annotations={explain.CANCELLED: "by the user"})),
            "cancelled",
            "by the user",
        ),
        (
            Snapshot(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team"})),
            "created",
            "queue team",
        ),
        (Snapshot(job()), "created", "is being made"),
        (
            Snapshot(job(), None, (Event(T.format(1), "Warning", "FailedCreate", "exceeded quota", "r-1"),)),
            "created",
            "exceeded quota",
        ),
        (
            Snapshot(job(), pod(node="", conditions=UNSCHEDULED)),
            "preparing",
            "Insufficient nvidia.com/gpu",
        ),
        (
            Snapshot(
                job(),
                pod(),
                (Event(T.format(3), "Normal", "Pulling", 'Pulling image "base"', "r-1-abc"),),
            ),
            "preparing",
            'Pulling image "base"',
        ),
        (
            Snapshot(job(), pod({"record": state("waiting", reason="ImagePullBackOff", message="not found")})),
            "preparing",
            "image base cannot be pulled (ImagePullBackOff): not found",
        ),
        (
            Snapshot(
                job(),
                pod({"record": state("waiting", reason="ErrImagePull", message=UNPULLED)}),
            ),
            "preparing",
            "image base cannot be pulled (ErrImagePull): not found",
        ),
        (
            Snapshot(
                job(),
                pod(
                    {
                        "record": DONE,
                        "sandbox": state(
                            "waiting",
                            reason="CreateContainerConfigError",
                            message='secret "x" not found',
                        ),
                    }
                ),
            ),
            "preparing",
            'cannot be made (CreateContainerConfigError): secret "x" not found',
        ),
        (Snapshot(job(), pod({"record": DONE, "clone": UP})), "preparing", "cloning"),
        (Snapshot(job(), pod({"record": DONE, "sandbox": UP, "agent": UP}, "Running")), "starting", ""),
        (
            Snapshot(job(), pod({"sandbox": UP, "agent": ended(0, said())}, "Running")),
            "done",
            "the agent ended the run",
        ),
        (
            Snapshot(job(), pod({"sandbox": UP, "agent": ended(137, "", "OOMKilled")}, "Running")),
            "failed",
            "out of memory",
        ),
        (
            Snapshot(job(), pod({"record": ended(2, "no space left")}, "Failed")),
            "failed",
            "container record failed: exit status 2: no space left",
        ),
        (
            Snapshot(job(), pod({}, "Failed", reason="Evicted", message='Usage of EmptyDir volume "w"')),
            "failed",
            "evicted: Usage of EmptyDir",
        ),
        (
            Snapshot(job(), pod({}, "Failed", reason="DeadlineExceeded", message="was active too long")),
            "failed",
            "deadline",
        ),
        (
            Snapshot(
                job(
                    conditions=[
                        {
                            "type": "Failed",
                            "status": "True",
                            "reason": "BackoffLimitExceeded",
                            "message": "Job has reached the specified backoff limit",
                        }
                    ]
                )
            ),
            "failed",
            "backoff limit",
        ),
        (Snapshot(), "interrupted", "its Job is gone"),
    ],
)  # fmt: skip
def test_each_way_to_stand(snap: Snapshot, expected: str, words: str) -> None:
    status = explain.describe(RUN, snap)
    assert status.state == expected
    assert words in status.reason


def test_the_record_speaks_where_it_has_the_end() -> None:
    over = replace(
        RUN,
        state="bound",
        reason="turns",
        exit_status=4,
        ended="2026-11-24T03:01:00.000Z",
        attempts=1,
    )
    status = explain.describe(over, Snapshot(job(), pod({"agent": ended(4, said())}, "Failed")))
    assert (status.state, status.reason, status.exit_status) == ("bound", "turns", 4)
    assert explain.describe(over, Snapshot()).state == "bound"
    # a Job that was made after that end goes on from it
    later = replace(job(2), created="2026-11-24T03:02:00Z")
    assert explain.describe(over, Snapshot(later)).state == "created"
    assert explain.newer(over, Snapshot(later))


def test_a_pod_that_was_disrupted_gets_a_successor() -> None:
    disrupted = [{"type": "DisruptionTarget", "status": "True", "message": "preempted"}]
    gone = pod({"agent": ended(143, said(state="interrupted"))}, "Failed", conditions=disrupted)
    status = explain.describe(RUN, Snapshot(job(), gone))
    assert status.agent_alive
    assert explain.end_of(RUN, Snapshot(job(), gone)) is None


def test_a_sandbox_alone() -> None:
    run = replace(RUN, plan={"agent": False})
    data = pod({"sandbox": UP}, "Running")
    alone = replace(
        data,
        containers=(replace(data.container("sandbox"), kind="main"),),  # type: ignore[type-var]
    )
    status = explain.describe(run, Snapshot(job(), alone))
    assert (status.state, status.agent_alive, status.sandbox_alive) == ("running", False, True)
    finished = replace(alone.containers[0], state="terminated", exit_code=0)
    over = Snapshot(job(), replace(alone, phase="Succeeded", containers=(finished,)))
    status = explain.describe(run, over)
    assert (status.state, status.exit_status, status.sandbox_alive) == ("done", 0, False)


def test_phases_have_times_and_failures() -> None:
    snap = Snapshot(job(), pod({"record": DONE, "clone": ended(1, "git said no"), "sandbox": UP}))
    found = {phase.name: phase for phase in explain.phases(snap)}
    assert list(found) == ["scheduling", "creating", "filling", "cloning"]
    assert (found["scheduling"].started, found["scheduling"].ended) == (T.format(1), T.format(2))
    assert "git said no" in found["cloning"].failure


def test_the_last_job_and_the_last_pod_of_each_run() -> None:
    older, newer = pod(), replace(pod(), name="r-2-x", created=T.format(9))
    found = last([job(2), job(1)], [("r-2", newer), ("r-2", older), ("r-1", older)])
    assert found["r"].job.number == 2
    assert found["r"].pod.name == "r-2-x"


def test_last_words_that_are_no_json_are_no_end() -> None:
    snap = Snapshot(job(), pod({"agent": ended(1, "Traceback: boom")}, "Failed"))
    status = explain.describe(RUN, snap)
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "Traceback: boom" in status.reason


def test_a_job_that_was_cancelled_is_over_whatever_its_queue_does() -> None:
    waits = {"labels": {"kueue.x-k8s.io/queue-name": "runs"}, "suspend": True}
    assert explain.describe(RUN, Snapshot(job(**waits))).state == "created"
    gone = Snapshot(job(annotations={"runner/cancelled": "by me"}, **waits))
    assert not gone.alive
    status = explain.describe(RUN, gone)
    assert (status.state, status.reason, status.exit_status) == ("cancelled", "by me", 130)
    assert explain.cancelled("by me")["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": None}


@pytest.mark.parametrize(
    ("conditions", "position", "said"),
    [
        (None, None, "in the queue runs"),
        ([], 0, "in the queue runs, the next one"),
        (
            [("QuotaReserved", "False", "insufficient unused quota for nvidia.com/gpu")],
            2,
            "in the queue runs, 2 before it: insufficient unused quota for nvidia.com/gpu",
        ),
        (
            [("QuotaReserved", "False", "request > maximum capacity (64 > 8)")],
            None,
            "can never start as it is: request > maximum capacity (64 > 8); ask for less",
        ),
        ([("QuotaReserved", "True", "")], None, "waits for an admission check"),
        (
            [("QuotaReserved", "False", ""), ("Evicted", "True", "Preempted to accommodate x")],
            None,
            "taken off its node: Preempted to accommodate x",
        ),
    ],
)
def test_why_a_run_waits_in_its_queue(
    conditions: list[tuple[str, str, str]] | None, position: int | None, said: str
) -> None:
    workload = None
    if conditions is not None:
        keys = ("type", "status", "message")
        workload = {"status": {"conditions": [dict(zip(keys, c, strict=True)) for c in conditions]}}
    words = kueue.words("runs", workload, position)
    assert said in words
    held = job(labels={"kueue.x-k8s.io/queue-name": "runs"}, suspend=True)
    assert explain.describe(RUN, Snapshot(held, queued=words)).reason == f"queued: {words}"
