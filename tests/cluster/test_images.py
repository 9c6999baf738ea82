"""The images: built once, pushed, and run by digest under Pod Security "restricted"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import ApiClient
from sandbox_process import until

from runner.cluster import Images

pytestmark = pytest.mark.cluster

AT_RUNNER = ["/opt/runner/bin/python", "-P", "-c"]
SANDBOX = """
import importlib.util as u, os, pathlib, subprocess, sys
import runner.sandbox.server, runner.pod.clone, runner.pod.install, runner.pod.sandbox
assert u.find_spec("anthropic") is None
assert os.getuid() == 1000 and os.getcwd() == "/workspace"
pathlib.Path("made").write_text("here")
kernel = "import ipykernel, matplotlib, numpy, pandas, sys; print(sys.prefix)"
for command in (["python", "-c", kernel], ["git", "--version"], ["uv", "--version"]):
    subprocess.run(command, check=True)
print("parent", pathlib.Path("/proc/1/comm").read_text())
"""
AGENT = """
import importlib.util as u, os, pathlib
import runner.agent.worker, runner.agent.providers.anthropic, s3fs
import runner.pod.record, runner.pod.send, runner.pod.receive, runner.pod.close, runner.pod.hold
for name in ("jupyter_server", "ipykernel", "kubernetes"):
    assert u.find_spec(name) is None, name
assert os.getuid() == 1000
try:
    pathlib.Path("/home/runner/made").write_text("")
except OSError as error:
    print("refused", error.strerror)
print("parent", pathlib.Path("/proc/1/comm").read_text())
"""


def pod(name: str, image: str, code: str, *, read_only: bool) -> dict[str, Any]:
    container = {
        "name": name,
        "image": image,
        "command": ["tini", "--", *AT_RUNNER, code],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": read_only,
        },
        "volumeMounts": [] if read_only else [{"name": "workspace", "mountPath": "/workspace"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "workspace", "emptyDir": {}}],
        },
    }


def said(api: ApiClient, namespace: str, name: str) -> str:
    """What a pod printed, which has to succeed."""
    core = client.CoreV1Api(api)

    def ended() -> str | None:
        phase = core.read_namespaced_pod(name, namespace).status.phase
        return phase if phase in ("Succeeded", "Failed") else None

    phase = until(ended, what=f"the end of the pod {name}", deadline_s=240)
    log = str(core.read_namespaced_pod_log(name, namespace))
    assert phase == "Succeeded", log
    return log


def test_the_images_run_by_digest_as_a_plain_user(
    api: ApiClient, namespace: str, apply: Callable[..., Any], images: Path
) -> None:
    told = Images.model_validate(yaml.safe_load(images.read_text())["images"])
    base = next(image for image in told.catalogue if image.name == "base")
    assert base is not None
    assert "@sha256:" in base.image
    assert "@sha256:" in told.agent
    apply(
        pod("sandbox", base.image, SANDBOX, read_only=False),
        pod("agent", told.agent, AGENT, read_only=True),
    )
    assert said(api, namespace, "sandbox").startswith("/opt/python\ngit version")
    assert said(api, namespace, "agent") == "refused Read-only file system\nparent tini\n\n"
    assert {"numpy", "pandas", "matplotlib", "ipykernel"} <= {
        package.partition("==")[0] for package in base.packages
    }
    assert base.python_version.startswith("3.")
