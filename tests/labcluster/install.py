"""Install what the cluster is made of, where it is not there yet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from labcluster.places import BIN, HELM, HERE, KUBERNETES, KUEUE, STATE
from labcluster.processes import say, sh

PACKAGES = [
    *("containerd", "runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2"),
    *("docker-registry", "docker.io", "debootstrap", "openssl", "gcc", "libc6-dev"),
]
# One binary, which looks at its name.
COMPONENTS = [
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
]


def install() -> None:
    """Debian packages, Kubernetes, Helm and Kueue. Does nothing where all is there."""
    packages(PACKAGES)
    BIN.mkdir(parents=True, exist_ok=True)
    _once("kubernetes", HERE / "components", KUBERNETES, "6 minutes", _build_kubernetes)
    _once("helm", None, HELM, "2 minutes", _build_helm)
    _once("kueue", HERE / "kueue", KUEUE, "4 to 6 minutes", _build_kueue)


def kueue_chart() -> Path:
    """Kueue's own chart, in the Go module that it is built from."""
    told = sh(
        *("go", "mod", "download", "-json", f"sigs.k8s.io/kueue@{KUEUE}"),
        cwd=HERE / "kueue",
        capture_output=True,
    ).stdout
    return Path(json.loads(told)["Dir"]) / "charts" / "kueue"


def packages(names: list[str]) -> None:
    """Debian packages, those that are not there."""
    if os.geteuid() != 0:
        sys.exit("labcluster: needs root: it starts containers, networks and mounts")
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return
    say(f"labcluster: apt-get install {' '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    sh("apt-get", "update", "-qq", env=environment)
    sh(
        *("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing),
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def _once(
    name: str, module: Path | None, version: str, cold: str, build: Callable[[], None]
) -> None:
    """Build where what is there was made from other files or of another version."""
    files = sorted(path for path in module.iterdir() if path.is_file()) if module else []
    digest = hashlib.sha256(version.encode())
    for path in files:
        digest.update(path.read_bytes())
    mark = STATE / f"{name}.made"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    if shutil.which("go") is None:
        sys.exit("labcluster: there is no go on PATH; Go 1.26 builds the cluster (go.dev/dl)")
    say(f"labcluster: building {name} {version}: {cold} with nothing in Go's cache")
    mark.unlink(missing_ok=True)
    build()
    mark.write_text(digest.hexdigest())


def _build_kubernetes() -> None:
    made = BIN / "labcluster"
    _go_build(
        HERE / "components", made, ".", f"k8s.io/component-base/version.gitVersion={KUBERNETES}"
    )
    for name in COMPONENTS:
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(made.name)


def _build_helm() -> None:
    minor = KUBERNETES.split(".")[1]
    # Without these `helm template` and `helm lint` take the cluster for a Kubernetes of 2020.
    said = [f"helm.sh/helm/v3/internal/version.version={HELM}"]
    for package in ("chartutil", "lint/rules"):
        said.append(f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={minor}")
    sh(
        *("go", "install", "-trimpath", _flags(*said), f"helm.sh/helm/v3/cmd/helm@{HELM}"),
        env=_go_environment() | {"GOBIN": str(BIN)},
    )


def _build_kueue() -> None:
    # The visibility API needs its version at build time.
    said = f"sigs.k8s.io/kueue/pkg/version.GitVersion={KUEUE}"
    _go_build(HERE / "kueue", STATE / "kueue" / "manager", "sigs.k8s.io/kueue/cmd/kueue", said)


def _go_build(module: Path, made: Path, package: str, said: str) -> None:
    made.parent.mkdir(parents=True, exist_ok=True)
    # A running binary cannot be written to, but another can take its name.
    part = made.with_suffix(".part")
    sh(
        *("go", "build", "-trimpath", _flags(said), "-o", part, package),
        cwd=module,
        env=_go_environment(),
    )
    part.replace(made)


def _flags(*said: str) -> str:
    return " ".join(["-ldflags=-s -w", *(f"-X {variable}" for variable in said)])


def _go_environment() -> dict[str, str]:
    return os.environ | {"CGO_ENABLED": "0"}
