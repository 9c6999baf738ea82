"""Each cause that keeps a run from starting, or ends it: made for real, and told by `status`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cluster_access
import pytest
from causes_seen import Causes
from cluster_lab import ClusterLab
from command_line import CommandLine
from tiny_runs import Run, cell, end, held, until

from runner import submission
from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.client import connect
from runner.backends.kubernetes.translate import Refused
from runner.plan import PinnedRepo, RunPlan
from runner.record import runs

pytestmark = pytest.mark.cluster

VALUES: dict[str, Any] = {
    # Else `submit` refuses what no node can hold.
    "autoscaling": True,
    "volumes": {"stuck": {"claim": "stuck"}},
}


@pytest.fixture(scope="module")
def chart(namespace: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    top = tmp_path_factory.mktemp("chart")
    return cluster_access.install_chart(namespace, images, top, VALUES)


@pytest.fixture
def lab(chart: str, namespace: str, tmp_path: Path) -> Iterator[ClusterLab]:
    assert chart
    made = ClusterLab(tmp_path, namespace, connect(None, namespace))
    yield made
    made.close()


def changed(lab: ClusterLab, prepared: submission.Submission, **update: object) -> Run:
    """Start a plan that was changed behind the checks' back."""
    plan = RunPlan.model_validate(prepared.plan.model_copy(update=update).model_dump())
    return lab.start(submission.Submission(plan, prepared.secrets, prepared.blobs))


# -- no pod --------------------------------------------------------------------------------


def test_a_quota_is_used_up(lab: ClusterLab, causes: Causes, apply: Callable[..., Any]) -> None:
    first = lab.submit([cell(held()), end()])
    first.state("running")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}}
    apply({**quota, "spec": {"hard": {"count/pods": "1"}}})
    try:
        until(lambda: lab.client.read("resourcequotas", "team").get("status"), "it is counted")
        second = lab.submit([end()])
        causes.seen(
            second.run_id, "a quota is used up", shows="exceeded quota", says="exceeded quota"
        )
    finally:
        lab.client.delete("resourcequotas", "team")
    lab.backend.delete(second.handle)
    first.let_go()
    assert first.over().state == "done"


def refused(lab: ClusterLab, **spec: Any) -> str:
    """A Job whose pods are like those of runs, but for this; the run's id."""
    plan = lab.prepare([end()]).plan
    made = manifests.job(plan, lab.backend.cluster, 1, suspended=False)  # type: ignore[attr-defined]
    made["spec"]["template"]["spec"].update(spec)
    lab.client.create("jobs", made)
    return plan.run_id


def test_pod_security(lab: ClusterLab, causes: Causes) -> None:
    name = refused(lab, hostNetwork=True)
    causes.seen(
        name, "Pod Security refuses the pod", shows="PodSecurity", says="violates PodSecurity"
    )
    lab.client.delete("jobs", f"{name}-1")


@contextmanager
def policy(lab: ClusterLab, apply: Callable[..., Any]) -> Iterator[None]:
    """Pods of this namespace need a label."""
    name, group = lab.client.namespace, "admissionregistration.k8s.io/v1"
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    rule = {
        "expression": "'cost-centre' in object.metadata.labels",
        "message": "every pod needs the label cost-centre",
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    kind = "ValidatingAdmissionPolicy"
    meta = {"metadata": {"name": name}}
    spec = {"matchConstraints": {"resourceRules": [pods]}, "validations": [rule]}
    bound = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    apply({"apiVersion": group, "kind": kind, **meta, "spec": spec})
    apply({"apiVersion": group, "kind": f"{kind}Binding", **meta, "spec": bound})
    try:
        yield
    finally:
        for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            lab.client.request("DELETE", f"/apis/{group}/{plural}/{name}")


def test_a_policy_refuses_the_pod(
    lab: ClusterLab, causes: Causes, apply: Callable[..., Any]
) -> None:
    job = manifests.job(lab.prepare([end()]).plan, lab.backend.cluster, 1)  # type: ignore[attr-defined]
    template = job["spec"]["template"]
    template["metadata"]["name"] = "probe"
    probe = {"apiVersion": "v1", "kind": "Pod", **template}

    def denied() -> bool:
        try:
            lab.client.create("pods", probe, dry_run=True)
        except Refused as error:
            return "cost-centre" in error.message
        return False

    with policy(lab, apply):
        until(denied, "the policy holds", 60)
        run = lab.submit([end()])
        causes.seen(
            run.run_id,
            "a policy of the cluster refuses the pod",
            shows="denied request",
            says="cost-centre",
        )
        lab.backend.delete(run.handle)


# -- no node -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "toml", "shows", "says"),
    [
        ("no node has the GPU", 'gpu = ["H100"]', "node affinity", "no node has nvidia.com/gpu"),
        ("more GPUs than any node has", 'gpu = ["A100"]\ngpu_count = 64', "Insufficient", "asks for 64"),
        ("more memory than a node has left", 'memory = "4Ti"', "Insufficient", "asks for memory"),
        ("a claim has no volume", 'volumes = [{name = "stuck", path = "data"}]', "unbound immediate", "not found"),
    ],
)  # fmt: skip
def test_no_node(
    lab: ClusterLab, causes: Causes, apply: Callable[..., Any],
    cause: str, toml: str, shows: str, says: str,
) -> None:  # fmt: skip
    size = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "stuck"}}
    apply({**claim, "spec": {**size, "storageClassName": "nfs"}})
    run = lab.submit([end()], f"[sandbox]\n{toml}\n")
    causes.seen(run.run_id, cause, shows=shows, says=says)
    lab.backend.stop(run.handle, 1.0)
    assert run.status.state == "cancelled"


# -- its containers ------------------------------------------------------------------------


def test_an_image_that_is_not_there(lab: ClusterLab, causes: Causes) -> None:
    prepared = lab.prepare([end()])
    images = prepared.plan.images
    assert images is not None
    name = images.sandbox.partition("@")[0]
    run = changed(
        lab, prepared, images=images.model_copy(update={"sandbox": f"{name}@sha256:{'0' * 64}"})
    )
    causes.seen(
        run.run_id, "the image is not in the registry", shows="ErrImagePull", says="not found"
    )


def test_a_secret_that_is_removed_after_the_checks(lab: ClusterLab, causes: Causes) -> None:
    with lab.secrets(GOES_AWAY="a-value-of-it"):
        prepared = lab.prepare([end()], '[sandbox]\nsecrets = ["GOES_AWAY"]\n')
    run = lab.start(prepared)
    causes.seen(
        run.run_id,
        "a secret's key was removed",
        shows="couldn't find key",
        says="couldn't find key",
    )
    with lab.secrets(GOES_AWAY="a-value-of-it"):  # which is all that it wanted
        assert run.over().state == "done"


def test_a_repository_that_cannot_be_cloned(lab: ClusterLab, causes: Causes) -> None:
    gone = PinnedRepo(
        url=f"https://{lab.address}:1/gone", name="gone", ref=None, commit="0" * 40, install=False
    )
    run = changed(lab, lab.prepare([end()]), repos=(gone,))
    run.over()
    causes.seen(
        run.run_id, "a repository cannot be cloned", shows="cloning failed", says="cloning failed"
    )


def test_a_sandbox_without_its_python(lab: ClusterLab, causes: Causes) -> None:
    prepared = lab.prepare([end()])
    images = prepared.plan.images
    assert images is not None
    other = images.model_copy(update={"python": "/nowhere/bin/python"})
    run = changed(lab, prepared, images=other, start_deadline_s=20.0)
    run.over()
    causes.seen(
        run.run_id,
        "the image has not the Python that its entry names",
        shows="/nowhere",
        says="/nowhere",
    )


def test_a_sandbox_with_too_little_memory(lab: ClusterLab, causes: Causes) -> None:
    run = lab.submit([end()], '[sandbox]\nmemory = "48Mi"\n')
    causes.seen(
        run.run_id,
        "the sandbox has too little memory to start",
        shows='"restartCount": 2',
        says="again and again",
    )


# -- the end -------------------------------------------------------------------------------


def test_files_outside_of_the_workspace_fill_the_disk(lab: ClusterLab, causes: Causes) -> None:
    fill = "import subprocess; subprocess.run(['fallocate', '-l', '11G', '/tmp/large'], check=True)"
    # kubelet measures disks once a minute, and seldomer where that takes it long.
    run = lab.submit([cell(fill), cell(held(), timeout=280), end()])
    causes.seen(
        run.run_id, "evicted, as its disk is full", shows="Evicted", says="exceeds the limit"
    )
    assert run.over().exit_status in (3, 143)


def test_the_pods_own_deadline(lab: ClusterLab, causes: Causes) -> None:
    run = lab.submit([cell(held()), end()])
    run.state("running")
    [pod] = lab.objects(run.run_id)["pods"]
    lab.client.patch("pods", pod["metadata"]["name"], {"spec": {"activeDeadlineSeconds": 1}})
    causes.seen(
        run.run_id, "the pod's deadline was over", shows="DeadlineExceeded", says="by its deadline"
    )


# -- and a script --------------------------------------------------------------------------

SCRIPT = """\
from runner import Sandbox, SandboxConfig

Sandbox(SandboxConfig(memory="900Gi"), name="waits").start()
"""


def test_a_script_says_what_its_sandbox_waits_for_and_can_be_cancelled(lab: ClusterLab) -> None:
    file = lab.top / "main.py"
    file.write_text(SCRIPT)
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ["KUBECONFIG"])
    with line.starting(program=(str(file),)) as started:
        started.said("^waiting for the sandbox: scheduling .*memory")
        (path,) = runs(lab.top / "runs")
        run = lab.adopt(lab.backend.attach(path.name))
        assert (run.status.state, run.status.agent_alive) == ("preparing", True)
        lab.backend.stop(run.handle, 30.0)
        told = started.end()
    assert (told.status, "cancelled by the user while the sandbox started" in told.words) == (
        1,
        True,
    )
    assert (run.status.state, run.status.exit_status) == ("cancelled", 130)
    assert not any(lab.objects(run.run_id).values())
