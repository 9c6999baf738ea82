"""Kueue, by its own chart. It leaves Jobs without a queue's label alone."""

from __future__ import annotations

import json
import subprocess

from labcluster.images import load_directory
from labcluster.install import kueue_chart
from labcluster.places import BIN, KUBECONFIG, KUEUE, STATE
from labcluster.processes import say, sh

HELM = (BIN / "helm", "--kubeconfig", KUBECONFIG)
NAMESPACE = "kueue-system"


def up() -> None:
    """Install it and wait until it answers, where it is not there."""
    if _installed():
        return
    config = {"Entrypoint": ["/manager"], "User": "65532"}
    load_directory(STATE / "kueue", f"localhost/kueue:{KUEUE}", config)
    manager = "controllerManager.manager"
    values = {
        f"{manager}.image.repository": "localhost/kueue",
        f"{manager}.image.tag": KUEUE,
        f"{manager}.image.pullPolicy": "Never",
        f"{manager}.resources.requests.cpu": "50m",
        f"{manager}.resources.requests.memory": "64Mi",
    }
    sh(
        *(*HELM, "upgrade", "--install", "kueue", kueue_chart()),
        *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "300s"),
        *("--set", ",".join(f"{key}={value}" for key, value in values.items())),
        stdout=subprocess.DEVNULL,
    )
    say(f"labcluster: Kueue {KUEUE} is up")


def _installed() -> bool:
    words = [str(word) for word in (*HELM, "list", "--namespace", NAMESPACE, "--output", "json")]
    releases = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return any(release["status"] == "deployed" for release in releases)
