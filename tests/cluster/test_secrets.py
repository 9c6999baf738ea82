"""`runner secrets` against Secrets of a cluster, as a researcher's commands."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, CoreV1Api

pytestmark = pytest.mark.cluster

VALUE = "sk-very-secret-0123456789"
EXPERIMENT = 'name = "x"\ntask = "Do it."\n[sandbox]\nsecrets = ["HF_TOKEN"]\n'
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runner(namespace: str, researcher: Path, tmp_path: Path) -> Run:
    """A command in a directory with an experiment."""
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")},
        "KUBECONFIG": str(researcher),
        "RUNNER_BACKEND": "kubernetes",
        "RUNNER_KUBERNETES__NAMESPACE": namespace,
        "HF_TOKEN": "of this machine, which does not count",
    }

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runner", *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )

    return run


def test_set_list_and_check(runner: Run, api: ApiClient, namespace: str) -> None:
    before = runner("secrets", "check", "experiment.toml")
    assert before.returncode == 2
    assert "missing secrets: HF_TOKEN, ANTHROPIC_API_KEY" in before.stderr

    done = runner("secrets", "set", "HF_TOKEN", stdin=f"{VALUE}\n")
    assert done.returncode == 0, done.stderr
    assert "a line break at the end of the value was taken away" in done.stderr
    again = runner("secrets", "set", "ANTHROPIC_API_KEY", "--json", stdin=VALUE)
    assert json.loads(again.stdout)["created"] is False

    listed = runner("secrets", "list")
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    assert ["HF_TOKEN", "runner-secrets/HF_TOKEN", "there"] in rows
    checked = runner("secrets", "check", "experiment.toml")
    assert checked.returncode == 0, checked.stderr

    secret = CoreV1Api(api).read_namespaced_secret("runner-secrets", namespace)
    assert base64.b64decode(secret.data["HF_TOKEN"]).decode() == VALUE
    told = "".join(ran.stdout + ran.stderr for ran in (done, again, listed, checked))
    assert VALUE not in told
    assert secret.data["HF_TOKEN"] not in told


def test_a_secret_that_is_missing_is_made(runner: Run, api: ApiClient, namespace: str) -> None:
    core = CoreV1Api(api)
    core.delete_namespaced_secret("runner-secrets", namespace)
    assert runner("secrets", "check", "experiment.toml").returncode == 2
    done = runner("secrets", "set", "HF_TOKEN", stdin=VALUE)
    assert "which was made" in done.stdout, done.stderr
    made: Any = core.read_namespaced_secret("runner-secrets", namespace)
    assert made.metadata.labels["app.kubernetes.io/managed-by"] == "runner"
    assert set(made.data) == {"HF_TOKEN"}


def test_an_immutable_secret(runner: Run, api: ApiClient, namespace: str) -> None:
    core = CoreV1Api(api)
    core.patch_namespaced_secret("runner-secrets", namespace, {"immutable": True})
    done = runner("secrets", "set", "OTHER", stdin=VALUE)
    assert done.returncode == 2
    assert "immutable" in done.stderr
    assert VALUE not in done.stderr
