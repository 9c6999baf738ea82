"""Images that are made here, since no registry of images can be reached."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import ssl
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from labcluster.install import packages
from labcluster.node import Node, load
from labcluster.places import BASE, HERE
from labcluster.processes import say, sh

BASE_IMAGE = "localhost/base:1"
RELEASE = "bookworm"
# With these, building the runner's images installs few packages, and a pod has an init and git.
BASE_PACKAGES = [
    *("ca-certificates", "curl", "git", "openssh-client", "procps"),
    *("python3", "python3-pip", "python3-venv", "tini"),
]
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def base() -> Path:
    """The archive of the image that the tests' images are built on, made where it is not there."""
    made_of = hashlib.sha256(" ".join([RELEASE, *BASE_PACKAGES]).encode()).hexdigest()[:12]
    archive = BASE / f"{made_of}.tar"
    if archive.exists():
        return archive
    packages(["debootstrap"])
    say(f"labcluster: making {BASE_IMAGE}, {RELEASE} with Python and git (2 minutes)")
    shutil.rmtree(BASE, ignore_errors=True)
    root = BASE / "root"
    root.mkdir(parents=True)
    (root.parent / "log").touch()
    with (BASE / "log").open("wb") as log:
        sh(
            *("debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"),
            *(RELEASE, root),
            stdout=log,
            stderr=log,
        )
    # A TLS-inspecting proxy may stand between the builds and the registries of packages.
    shutil.copy(ssl.get_default_verify_paths().cafile or f"/{AUTHORITIES}", root / AUTHORITIES)
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / cache)
        (root / cache / "partial").mkdir(parents=True)
    environment = ["PATH=/usr/local/bin:/usr/bin:/bin", f"PIP_CERT=/{AUTHORITIES}"]
    part = archive.with_suffix(".part")
    write_archive(root, BASE_IMAGE, part, {"Env": environment, "Cmd": ["/bin/bash"]})
    part.rename(archive)
    shutil.rmtree(root)
    return archive


def load_pause(nodes: list[Node]) -> None:
    """Give the nodes the image that every pod needs."""
    with tempfile.TemporaryDirectory() as top:
        root = Path(top) / "root"
        root.mkdir()
        sh("gcc", "-O2", "-static", "-o", root / "pause", HERE / "pause.c")
        archive = Path(top) / "pause.tar"
        write_archive(root, "localhost/pause:1", archive, {"Entrypoint": ["/pause"]})
        for node in nodes:
            node.load(archive)


def load_directory(root: Path, tag: str, config: dict[str, Any]) -> None:
    """Give the nodes an image of one layer, the directory."""
    with tempfile.TemporaryDirectory() as top:
        archive = Path(top) / "image.tar"
        write_archive(root, tag, archive, config)
        load(archive)


def write_archive(root: Path, tag: str, archive: Path, config: dict[str, Any]) -> None:
    """Write a directory as an archive of one layer, in the form that `docker save` has."""
    layer = archive.with_name(f"{archive.name}.layer")
    sh("tar", "--numeric-owner", "-C", root, "-cf", layer, ".")
    with layer.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as out:
        for name, value in (("config.json", image), ("manifest.json", manifest)):
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
        out.add(layer, "layer.tar")
    layer.unlink()
