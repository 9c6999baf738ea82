"""The images: built once, pushed, and run by digest under Pod Security "restricted"."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import ApiClient
from sandbox_process import until

from runner.cluster import Images
from runner.errors import InfrastructureError
from runner.images.build import Base, build, find, find_base
from runner.images.context import Context, Facts
from runner.images.engine import connected
from runner.settings import Build

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
    base = told.find("base")
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


def runner(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_built_is_not_built_again() -> None:
    base = ["--base", os.environ["TEST_BASE"]] if os.environ.get("TEST_BASE") else []
    runner("images", "build", *base)
    built = [json.loads(line) for line in runner("images", "build", *base, "--json").splitlines()]
    assert {image["name"]: image["seconds"] for image in built} == {
        "agent": None,
        "base": None,
        "client": None,
    }
    listed = [json.loads(line) for line in runner("images", "list", *base, "--json").splitlines()]
    current = {image["tag"] for image in listed if image["current"]}
    assert current == {image["tag"] for image in built}


@pytest.fixture(scope="module")
def on() -> Base:
    with connected() as engine:
        return find_base(engine, os.environ.get("TEST_BASE") or Build().base, print)


def small(*lines: str) -> Context:
    """An image of few instructions."""
    dockerfile = "\n".join(("ARG BASE", "FROM ${BASE}", *lines))
    return Context("small", Facts("agent"), "0", {"Dockerfile": dockerfile.encode()}, {})


def test_a_failing_step_is_told_with_its_last_lines(on: Base) -> None:
    context = small("RUN echo first && echo 'what went wrong' >&2 && exit 7")
    with connected() as engine:
        before = {container.id for container in engine.containers.list(all=True)}
        with pytest.raises(InfrastructureError) as caught:
            build(engine, context, on, lambda _: None)
        assert find(engine, context, on) is None
        after = {container.id for container in engine.containers.list(all=True)}
    assert "building small: step 3 of " in caught.value.message
    assert "non-zero code: 7" in caught.value.message
    assert "| what went wrong" in caught.value.message
    assert after <= before


def test_proxies_and_cas_of_the_build_leave_no_trace(
    on: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("OUR OWN CA\n")
    monkeypatch.setenv("https_proxy", "http://user:word@proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@mirror.example/simple")
    context = small(
        *(
            "USER root",
            "ARG PIP_INDEX_URL",
            "ARG CA_BUNDLE",
            "ENV PIP_CERT=${CA_BUNDLE:-$PIP_CERT}",
        ),
        "COPY ca.crt* /opt/images/",
        f"ENV ONCE={secrets.token_hex(8)}",  # else the engine has it in its cache
        'RUN echo "$PIP_INDEX_URL $https_proxy" && cat "$PIP_CERT" && touch /done',
        *("FROM ${BASE}", "COPY --from=0 /done /done"),
    )
    lines: list[str] = []
    with connected() as engine:
        image = build(engine, context, on, lambda now: lines.append(now.line), ca_bundle=bundle)
        try:
            kept = json.dumps([engine.api.history(image.tag), engine.images.get(image.tag).attrs])
        finally:
            engine.images.remove(image.tag)
    assert "https://user:word@mirror.example/simple http://user:word@proxy.example:3128" in lines
    assert "OUR OWN CA" in lines
    for trace in ("word@", "proxy.example", "mirror.example", "CA_BUNDLE", "ca.crt"):
        assert trace not in kept, trace
