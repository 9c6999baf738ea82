"""What is said of a run out of what the API server says of its Job and pod."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import causes_seen
import pytest

from runner.backends.kubernetes import explain, kueue
from runner.backends.kubernetes.snapshot import Claim, Event, Node, Snapshot, job_of, last, pod_of
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
            Snapshot(job(), None, events=(Event(T.format(1), "Warning", "FailedCreate", "exceeded quota", "r-1"),)),
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
                events=(Event(T.format(3), "Normal", "Pulling", 'Pulling image "base"', "r-1-abc"),),
            ),
            "preparing",
            "creating: pulling the image base",
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
            "interrupted",
            "evicted: Usage of EmptyDir",
        ),
        (
            Snapshot(job(), pod({}, "Failed", reason="DeadlineExceeded", message="was active too long")),
            "interrupted",
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


def test_a_pod_that_kueue_took_away_gets_a_successor() -> None:
    gone = replace(
        pod({"agent": ended(143, said(state="interrupted"))}, "Failed"), deleting=T.format(6)
    )
    held = job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "runs"})
    for snap in (Snapshot(job(), gone), Snapshot(held, gone), Snapshot(held)):
        assert explain.describe(RUN, snap).agent_alive
        assert explain.end_of(RUN, snap) is None


def test_when_a_pod_was_told_to_leave() -> None:
    meta = {"name": "r-1-abc", "uid": "u", "creationTimestamp": T.format(1)}
    leaving = {"deletionTimestamp": "2026-11-24T03:01:07Z", "deletionGracePeriodSeconds": 60}
    found = pod_of({"metadata": {**meta, **leaving}, "spec": {"containers": []}})
    assert found.deleting == T.format(7)


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
            "can never start as it is: request > maximum capacity (64 > 8) → cancel it",
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
    cause = kueue.cause("runs", workload, position)
    assert said in f"{cause.words} → {cause.mend}"
    held = job(labels={"kueue.x-k8s.io/queue-name": "runs"}, suspend=True)
    assert explain.describe(RUN, Snapshot(held, queue=cause)).reason == f"queued: {cause.words}"


# -- the scheduler's words, read ------------------------------------------------------------

GPU, PRODUCT = "nvidia.com/gpu", "nvidia.com/gpu.product"
A100 = "NVIDIA-A100-SXM4-80GB"


def waits(message: str, gpus: int = 1) -> Any:
    """A pod without a node that wants so many A100s."""
    unplaced = [{"type": "PodScheduled", "status": "False", "message": message}]
    made = pod(node="", conditions=unplaced)
    asked = {GPU: Decimal(gpus), "memory": Decimal(2**40), "ephemeral-storage": Decimal(2**30)}
    return replace(made, selects={PRODUCT: (A100,)}, requests=asked)


def node(name: str, gpus: int = 8, product: str = A100, **more: Any) -> Node:
    return Node(name, {PRODUCT: product}, {GPU: str(gpus), "memory": "8Ti"}, **more)


NO_GPU = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available."


@pytest.mark.parametrize(
    ("message", "gpus", "nodes", "words", "mend"),
    [
        (NO_GPU, 1, (node("a"), node("b", product="T4")), f"no node has 1 × {A100} free: there is 1 node with 8 GPUs, all in use", "when a run ends"),
        (NO_GPU, 4, (node("a"), node("b")), f"no node has 4 × {A100} free: there are 2 nodes with 16 GPUs: 0/2", "when a run ends"),
        (NO_GPU, 64, (node("a"),), f"asks for 64 × {A100}, and no node for it has more than 8", "sandbox.gpu_count"),
        (NO_GPU, 1, None, f"no node has 1 × {A100} free: 0/2", "clusterRole.create"),
        ("0/1 nodes are available: 1 Insufficient memory.", 1, (node("a"),), "no node has memory 1Ti left", "sandbox.memory"),
        ("0/1 nodes are available: 1 Insufficient memory.", 1, (replace(node("a"), allocatable={"memory": "1Gi"}),), "asks for memory 1Ti, and no node for it has more than 1Gi", "sandbox.memory"),
        ("0/1 nodes are available: 1 Insufficient ephemeral-storage.", 1, (), "ephemeral-storage 1Gi left", "sandbox.disk"),
        ("0/1 nodes are available: 1 Too many pods.", 1, (), "as many pods as they may", "maxPods"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", 1, (node("a", product="T4"), node("b", product="T4")), f"no node has {PRODUCT} = {A100}: they have T4 (2)", "gpuClasses"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", 1, None, f"the label {PRODUCT} = {A100}", "clusterRole.create"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {team: vision}.", 1, (), "a taint", "toleration"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", 1, (node("a", taints=({"key": "team", "value": "vision", "effect": "NoSchedule"},)),), "the taint team=vision:NoSchedule", "toleration"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", 1, (node("a", unready="silent"),), "node a does not answer", "kubectl get nodes"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", 1, (node("a", unschedulable=True),), "cordoned (a)", "kubectl uncordon a"),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", 1, (), "on another node", "ReadWriteMany"),
        ('0/1 nodes are available: persistentvolumeclaim "records" not found.', 1, (), "the claim records is not there", "an admin makes it"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", 1, (), "the claim records has no volume: no class nfs", "of the storage class nfs"),
        ("0/1 nodes are available: 1 node(s) are on the moon.", 1, (), "on the moon", "an admin knows"),
    ],
)  # fmt: skip
def test_why_no_node_takes_it(
    message: str, gpus: int, nodes: tuple[Node, ...] | None, words: str, mend: str
) -> None:
    claims = (Claim("records", "Pending", "nfs", "no class nfs"),)
    status = explain.describe(
        RUN, Snapshot(job(), waits(message, gpus), nodes=nodes, claims=claims)
    )
    assert status.state == "preparing"
    assert words in status.reason
    assert mend in status.mend
    assert status.since == T.format(1)
    assert "preemption" not in status.reason


# -- what goes wrong while it runs ----------------------------------------------------------

RUNNING = replace(RUN, state="running", attempts=1)
FAILED = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]


def running(**changes: Any) -> Any:
    made = pod({"record": DONE, "sandbox": UP, "agent": UP}, "Running")
    return replace(made, **changes)


def restarted(restarts: int, reason: str, now: str = "running") -> Any:
    made = running()
    changed = replace(
        made.container("sandbox"),
        restarts=restarts,
        last=f"{reason} (exit status 137)",
        state=now,
        memory="48Mi",
    )
    others = (item for item in made.containers if item.name != "sandbox")
    return replace(made, containers=(*others, changed))


LOST = Node("lab", {}, {}, unready="Kubelet stopped posting node status.", since=T.format(7))


@pytest.mark.parametrize(
    ("snap", "state", "words", "mend", "since"),
    [
        (Snapshot(job(), running(ready=True), nodes=(node("lab"),)), "running", "", "", None),
        (Snapshot(job(), running(), nodes=(LOST,)), "running", "node lab does not answer: Kubelet stopped", "nothing is lost", T.format(7)),
        (Snapshot(job(), running(), events=(Event(T.format(7), "Warning", "NodeNotReady", "Node is not ready", "r-1-abc"),)), "running", "node lab does not answer: Node is not ready", "nothing is lost", T.format(7)),
        (Snapshot(job(), running(deleting=T.format(8), disrupted="Eviction API: evicting"), nodes=(node("lab"),)), "running", "the pod is taken off node lab: Eviction API", "another pod goes on", T.format(8)),
        (Snapshot(job(), running(deleting=T.format(8)), nodes=(LOST,)), "running", "node lab is lost, and its pod cannot end there", "kubectl taint nodes lab node.kubernetes.io/out-of-service=nodeshutdown:NoExecute", T.format(7)),
        (Snapshot(job(), restarted(1, "Error")), "running", "the sandbox was started again, and its variables are gone; before: Error", "", T.format(5)),
        (Snapshot(job(), restarted(1, "OOMKilled")), "running", "OOMKilled", "raise sandbox.memory", T.format(5)),
        (Snapshot(job(), restarted(2, "OOMKilled", "terminated")), "preparing", "ends again and again: OOMKilled (exit status 137): more than its memory of 48Mi", "raise sandbox.memory", T.format(3)),
    ],
)  # fmt: skip
def test_what_goes_wrong_while_it_runs(
    snap: Snapshot, state: str, words: str, mend: str, since: str | None
) -> None:
    status = explain.describe(RUNNING, snap)
    assert status.state == state
    assert words in status.reason
    assert mend in status.mend
    assert status.since == since


def test_a_silent_node_is_told_also_of_a_pod_that_had_not_run_as_far_as_is_known() -> None:
    snap = Snapshot(job(), pod({"record": DONE}), nodes=(LOST,))
    for run, state in ((RUN, "preparing"), (RUNNING, "running")):
        status = explain.describe(run, snap)
        assert status.state == state
        assert status.reason.startswith("node lab does not answer")


def test_where_the_run_is_to_fail_no_other_pod_is_promised() -> None:
    plan = {"agent": True, "experiment": {"sandbox": {"on_disruption": "fail"}}}
    leaving = Snapshot(job(), running(deleting=T.format(8), disrupted="evicting"))
    assert explain.describe(replace(RUNNING, plan=plan), leaving).mend == "the run ends then"


def evicted(agent: dict[str, Any]) -> Snapshot:
    message = 'Usage of EmptyDir volume "tmp" exceeds the limit "10Gi".'
    gone = pod({"agent": agent}, "Failed", reason="Evicted", message=message)
    return Snapshot(job(conditions=FAILED), gone)


def test_an_eviction_is_told_alike_whether_or_not_the_agent_had_a_last_word() -> None:
    over = replace(
        RUNNING, state="interrupted", reason="told to leave", ended="2026-11-24T03:01:00Z"
    )
    with_a_word = evicted(ended(143, said(state="interrupted", exit_status=143)))
    without = evicted(ended(137))
    told = [
        explain.describe(over, replace(with_a_word, pod=None)),  # only the record is left
        explain.describe(replace(over, exit_status=143), with_a_word),
        explain.describe(RUNNING, with_a_word),
        explain.describe(RUNNING, without),
    ]
    assert told[0].reason == "told to leave"
    assert {(one.state, one.reason, one.exit_status, one.mend) for one in told[1:]} == {
        (
            "interrupted",
            'the pod was evicted: Usage of EmptyDir volume "tmp" exceeds the limit "10Gi".',
            143,
            "keep large files in the workspace, and raise sandbox.disk",
        )
    }


def test_a_run_that_was_done_is_done_whatever_became_of_its_pod() -> None:
    assert explain.describe(RUNNING, evicted(ended(0, said()))).state == "done"


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        (
            'pods "x" is forbidden: exceeded quota: team, requested: pods=1',
            "kubectl describe quota",
        ),
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostNetwork',
            "submit again",
        ),
        (
            "pods is forbidden: ValidatingAdmissionPolicy 'limits' denied request: no label",
            "`pods`",
        ),
    ],
)
def test_a_pod_that_may_not_be_made(message: str, mend: str) -> None:
    refused = Event(T.format(1), "Warning", "FailedCreate", f"Error creating: {message}", "r-1")
    status = explain.describe(RUN, Snapshot(job(), None, events=(refused,)))
    assert status.reason == f"queued: the pod is refused: {message}"
    assert mend in status.mend


def test_a_job_waits_for_another_pod_since_the_first_one_went() -> None:
    made = Event(T.format(1), "Normal", "SuccessfulCreate", "Created pod: r-1-abc", "r-1")
    gone = replace(RUN, state="interrupted", attempts=1, ended=T.format(6))
    status = explain.describe(gone, Snapshot(job(), None, events=(made,)))
    assert status.reason == "queued: another pod is being made, as the one before it is gone"
    assert "10 minutes at most" in status.mend
    assert [phase.started for phase in status.phases] == [T.format(6)]
    assert status.since == T.format(6)


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        ("base: not found", "runner images push"),
        ("base: failed to authorize: 401 Unauthorized", "images.pullSecrets"),
        ("dial tcp: lookup registry: no such host", "cannot reach the registry"),
    ],
)
def test_what_mends_an_image_that_is_not_pulled(message: str, mend: str) -> None:
    waiting = state("waiting", reason="ImagePullBackOff", message=message)
    status = explain.describe(RUN, Snapshot(job(), pod({"record": waiting})))
    assert mend in status.mend


def test_how_long_an_image_took_the_last_time() -> None:
    pulled = 'Successfully pulled image "base" in 1m2.5s (1m3s including waiting). Image size: 813000000 bytes.'
    snap = Snapshot(
        job(),
        pod(),
        events=(Event(T.format(3), "Normal", "Pulling", 'Pulling image "base"', "r-1-abc"),),
        pulls=(Event(T.format(0), "Normal", "Pulled", pulled, "other"),),
    )
    status = explain.describe(RUN, snap)
    assert status.reason == "creating: pulling the image base (813 MB, 1m2.5s the last time)"
    assert status.since == T.format(3)


def test_the_docs_say_what_the_tests_saw() -> None:
    assert causes_seen.PAGE.read_text() == causes_seen.page(), "`make docs` writes it anew"


def test_what_differs_from_time_to_time_is_left_out_of_the_docs() -> None:
    words = "pods tiny-1-1-abc12 of job tiny-1-1 in team-x: localhost:4711/a at 10.1.2.3:80"
    assert (
        causes_seen.plain(words, "tiny-1", "team-x")
        == "pods POD of job JOB in TEAM: registry.lab.example/a at 10.0.0.7"
    )
