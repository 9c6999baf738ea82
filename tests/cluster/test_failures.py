"""What keeps a run from starting, or ends it, as `status` and `kubectl` tell it on a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_lab import ClusterLab
from messages_api import messages_api
from tiny_runs import Run, cell, end, held, until

from runner import submission
from runner.backends.kubernetes.client import connect
from runner.errors import InfrastructureError
from runner.plan import RunPlan

pytestmark = pytest.mark.cluster

SECRET, AFTER = "s3cret-from-before", "s3cret-from-after"
KILL = "pkill -KILL -f 'runner.pod sandbox'"
"""The server and what started it; the kubelet starts the container again."""
PLANT = """\
import os
for name in ("sandbox.log", "install.log", "phases.jsonl"):
    if os.path.exists(f"/sandbox/{name}"):
        os.remove(f"/sandbox/{name}")
os.symlink("/proc/self/environ", "/sandbox/sandbox.log")
os.mkfifo("/sandbox/install.log")
os.mkfifo("/sandbox/phases.jsonl")
print("planted")
"""


@pytest.fixture
def lab(chart: str, namespace: str, tmp_path: Path) -> Iterator[ClusterLab]:
    assert chart
    made = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield made
    made.close()


def started(lab: ClusterLab, prepared: submission.Submission, **changes: object) -> Run:
    """Start a plan that was changed behind the checks' back."""
    plan = RunPlan.model_validate(prepared.plan.model_copy(update=changes).model_dump())
    return lab.start(submission.Submission(plan, prepared.secrets, prepared.blobs))


def stuck(run: Run, words: str) -> None:
    """It says so while it waits; cancelled, it leaves nothing that runs."""
    until(lambda: words in run.status.reason, f"{words}: {run.status.reason}", 60)
    assert run.status.state == "preparing"
    run.lab.backend.stop(run.handle, 1.0)
    assert run.status.state == "cancelled"


def test_an_image_that_is_not_in_the_registry(lab: ClusterLab) -> None:
    prepared = lab.prepare([end()])
    images = prepared.plan.images
    assert images is not None
    name = images.sandbox.partition("@")[0]
    gone = images.model_copy(update={"sandbox": f"{name}@sha256:{'0' * 64}"})
    run = started(lab, prepared, images=gone)
    stuck(run, "cannot be pulled")


def test_a_secret_that_vanishes_after_the_checks(lab: ClusterLab) -> None:
    with lab.secrets(GOES_AWAY=SECRET):
        prepared = lab.prepare([end()], '[sandbox]\nsecrets = ["GOES_AWAY"]\n')
    stuck(lab.start(prepared), "couldn't find key GOES_AWAY")


def test_more_memory_than_it_may_have(lab: ClusterLab) -> None:
    source = "x = bytearray(3 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1"
    run = lab.submit([cell(source), end()], '[sandbox]\nmemory = "512Mi"\n')
    assert run.over().state == "done"
    assert "limit of 0.50 GiB" in run.results()[0]
    assert "memory" in run.results()[0]


def test_a_run_that_is_over_tells_its_story_to_kubectl(lab: ClusterLab) -> None:
    run = lab.submit([cell("print('hello')"), end()])
    run.over()
    objects = lab.objects(run.run_id)
    (job,), (pod,) = objects["jobs"], objects["pods"]
    labels, notes = job["metadata"]["labels"], job["metadata"]["annotations"]
    assert labels["app.kubernetes.io/name"] == "runner"
    assert labels["runner/experiment"] == notes["runner/experiment"] == "tiny"
    assert labels["runner/owner"]
    assert notes["runner/record"] == f"pvc://runner-records/{run.run_id}"
    until(lambda: "Complete" in conditions(lab, run), "the Job is complete", 30)
    states = {s["name"]: s["state"] for s in pod["status"]["containerStatuses"]}
    said = json.loads(states["agent"]["terminated"]["message"])
    assert (said["state"], said["exit_status"], said["turns"]) == ("done", 0, 2)
    log = b"".join(lab.client.log(pod["metadata"]["name"], "sandbox")).decode()
    assert re.search(r"cell \w+ \(.*\) started", log)
    assert re.search(r"cell \w+ \(.*\) ok \[1\] after", log)


def conditions(lab: ClusterLab, run: Run) -> set[str]:
    (job,) = lab.objects(run.run_id)["jobs"]
    return {c["type"] for c in job["status"].get("conditions") or () if c["status"] == "True"}


def test_links_in_the_sandbox_s_volume_lead_the_agent_nowhere(lab: ClusterLab) -> None:
    """Its log goes into the record: not the agent's environment, nor a pipe that never ends."""
    script = [
        {"text": "Now.", "tools": [{"name": "run_cell", "input": {"source": PLANT}}]},
        {"text": "That is all."},
    ]
    with messages_api(script, address=lab.address) as server, lab.secrets(MODEL_KEY=SECRET):
        agent = f'[agent]\nllm_secret = "MODEL_KEY"\nbase_url = "{server.url}"\n'
        run = lab.submit((), agent)
        status = run.over()
    assert status.state == "done", status
    assert "planted" in run.results()[0]
    for file in run.path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_a_secret_that_is_changed_meanwhile_is_masked_before_and_after(lab: ClusterLab) -> None:
    """The sandbox is started again with the new value; its files have the one from before."""
    source = "import os; open('kept.txt', 'w').write(os.environ['TURNS'])"
    look = "import os; print(open('kept.txt').read(), os.environ['TURNS'])"
    steps = [cell(source), cell(held()), cell(look), cell(look), end()]
    with lab.secrets(TURNS=SECRET):
        run = lab.submit(steps, '[sandbox]\nsecrets = ["TURNS"]\n')
        until(lambda: len(run.synced().lines("tool_result")) >= 1, "the first cell ran")
        with lab.secrets(TURNS=AFTER):
            with run.session() as session:
                boot = session.boot
                session.submit({"kind": "shell", "command": KILL}, op="kill", timeout_s=0.0)
            until(lambda: booted(run) != boot, "another server is there")
            run.let_go()
            status = run.over()
    assert status.state == "done", (status, run.log())
    said = "\n".join(run.results())
    assert SECRET not in said
    assert AFTER not in said
    assert "*** ***" in said


def booted(run: Run) -> str:
    """The boot of the sandbox server that answers now; empty while none does."""
    try:
        with run.session() as session:
            return session.boot or ""
    except InfrastructureError:
        return ""
