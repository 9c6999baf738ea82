"""The cluster that KUBECONFIG names, for tests: its API, namespaces, images and the chart."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import this_machine
import yaml
from kubernetes import client, config
from kubernetes.client import ApiClient
from kubernetes.dynamic import DynamicClient

TOP = Path(__file__).resolve().parent.parent
CHART = TOP / "charts" / "runner"
LEVELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
RESEARCHER, VIEWER = "tests-researcher", "tests-viewer"
"""ServiceAccounts of each namespace that has the chart."""
AUTHORITIES = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")


def kubeconfig() -> Path:
    """The file that KUBECONFIG names; the tests fail without a cluster that answers."""
    named = os.environ.get("KUBECONFIG")
    if not named or not Path(named).exists():
        pytest.fail(f"KUBECONFIG={named}: no such file; `make cluster-up` starts a cluster", False)
    with connected(Path(named)) as api:
        try:
            client.VersionApi(api).get_code(_request_timeout=10)
        except Exception as error:
            pytest.fail(f"the cluster of {named} does not answer: {error}", False)
    return Path(named)


@contextmanager
def connected(file: Path) -> Iterator[ApiClient]:
    """The official client, as the kubeconfig's user."""
    with config.new_client_from_config(str(file)) as api:
        yield api


@contextmanager
def namespace(api: ApiClient, prefix: str) -> Iterator[str]:
    """A fresh namespace under Pod Security "restricted"; its deletion goes on by itself."""
    name = f"{prefix.replace('_', '-')[:40]}-{secrets.token_hex(3)}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name, "labels": LEVELS}})
    try:
        yield name
    finally:
        # The chart's ClusterRole is not of the namespace.
        helm("uninstall", "runner", "--namespace", name, "--ignore-not-found", "--wait=false")
        core.delete_namespace(name, propagation_policy="Background")


def apply(api: ApiClient, namespace: str, *objects: dict[str, Any] | str) -> list[dict[str, Any]]:
    """Make or change objects, given as dicts or as YAML of one or more documents."""
    dynamic = DynamicClient(api)
    made = []
    for thing in objects:
        for body in yaml.safe_load_all(thing) if isinstance(thing, str) else (thing,):
            resource = dynamic.resources.get(api_version=body["apiVersion"], kind=body["kind"])
            place = namespace if resource.namespaced else None
            answer = resource.server_side_apply(
                body, namespace=place, field_manager="tests", force_conflicts=True
            )
            made.append(answer.to_dict())
    return made


def images() -> Path:
    """The chart's values that name the runner's images, as TEST_IMAGES says; absolute."""
    given = os.environ.get("TEST_IMAGES")
    if not given or not (TOP / given).exists():
        pytest.fail(f"TEST_IMAGES={given}: no such file; `make test-cluster` builds images", False)
    return TOP / given


def helm(*words: str | Path) -> str:
    """What helm prints; a failure is the test's, in helm's words."""
    found = shutil.which("helm")
    if found is None:
        pytest.fail("there is no helm on PATH; `make test-cluster` sets it", False)
    return _told(found, *words)


def install_chart(
    namespace: str, images: Path, top: Path, values: dict[str, Any] | None = None
) -> str:
    """Install the chart for tests, with this machine's CAs; the release's name.

    `values` come on top of those in tests/labcluster/values.yaml.
    """
    # Pods clone from servers that tests start on this machine, whatever enforces policies.
    people = {"researchers": RESEARCHER, "viewers": VIEWER}
    reached = {
        "network": {"allow": [{"cidr": f"{this_machine.address()}/32"}]},
        "rbac": {
            role: [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
            for role, name in people.items()
        },
    }
    files = [TOP / "tests" / "labcluster" / "values.yaml", images]
    for name, told in (("reached", reached), ("values", values or {})):
        files.append(top / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(told))
    helm(
        *("upgrade", "--install", "runner", CHART, "--namespace", namespace),
        *("--wait", "--timeout", "120s"),
        *(word for file in files for word in ("--values", file)),
        *("--set-file", f"network.caBundle.pem={AUTHORITIES}"),
    )
    return "runner"


def account(api: ApiClient, namespace: str, name: str, top: Path) -> Path:
    """A new ServiceAccount of the namespace, which may what the chart gives it: its kubeconfig."""
    core = client.CoreV1Api(api)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    return access(api, namespace, name, top)


def access(api: ApiClient, namespace: str, name: str, top: Path) -> Path:
    """A kubeconfig of a ServiceAccount that is there."""
    core = client.CoreV1Api(api)
    asked = {"spec": {"expirationSeconds": 4 * 3600}}
    made = core.create_namespaced_service_account_token(name, namespace, asked)
    content = yaml.safe_load(kubeconfig().read_text())
    for item in content["users"]:
        item["user"] = {"token": made.status.token}
    file = top / f"{name}.kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file


def _told(*argv: str | Path) -> str:
    ran = subprocess.run([str(word) for word in argv], capture_output=True, text=True, cwd=TOP)
    said = f"{ran.stdout}\n{ran.stderr}"
    assert ran.returncode == 0, f"{' '.join(map(str, argv))}\n{said}"
    return ran.stdout
