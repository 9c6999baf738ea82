"""The parts of the lab cluster that need no cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from labcluster import images, places, volumes

TOP = Path(__file__).parent.parent
CLAIM = {
    "metadata": {"name": "records", "namespace": "team", "uid": "0a"},
    "spec": {
        "storageClassName": "lab",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "5Gi"}},
    },
    "status": {"phase": "Pending"},
}


@pytest.mark.parametrize(
    ("module", "package", "version"),
    [
        ("components", "k8s.io/kubernetes", places.KUBERNETES),
        ("kueue", "sigs.k8s.io/kueue", places.KUEUE),
    ],
)
def test_versions_are_those_of_the_go_modules(module: str, package: str, version: str) -> None:
    required = (places.HERE / module / "go.mod").read_text()
    assert re.search(rf"^(?:require )?\s*{re.escape(package)} (\S+)", required, re.M)[1] == version


def test_the_base_image_has_what_images_install_by_apt() -> None:
    wanted = {line for file in TOP.glob("images/*/system.txt") for line in file.read_text().split()}
    assert wanted <= set(images.BASE_PACKAGES)


def test_a_claim_gets_a_volume_of_its_own() -> None:
    made = volumes.volume(CLAIM, ["lab", "lab2"])
    spec = made["spec"]
    assert made["metadata"]["name"] == "lab-0a"
    assert spec["claimRef"]["namespace"] == "team"
    assert spec["claimRef"]["uid"] == "0a"
    assert spec["accessModes"] == ["ReadWriteMany"]
    assert spec["capacity"] == {"storage": "5Gi"}
    assert spec["local"] == {"path": "/var/lib/labcluster/volumes/lab-0a"}


def test_it_starts_with_the_standard_library_alone() -> None:
    argv = [sys.executable, "-I", "-S", str(places.HERE), "--help"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "install and start all of it" in told
