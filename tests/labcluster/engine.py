"""The Docker engine that builds images: Debian's docker.io, with the base image."""

from __future__ import annotations

import shutil

from labcluster.images import BASE_IMAGE, base
from labcluster.install import packages
from labcluster.places import DOCKER
from labcluster.processes import ours, quiet, say, sh, start, stop, wait


def up() -> None:
    """Start an engine where none answers, and give it the base image where it has none."""
    if not (shutil.which("docker") and quiet("docker", "version")):
        packages(["docker.io"])
        # The argument marks the engine as the lab cluster's, for `down`.
        start("dockerd", "dockerd", "--pidfile", DOCKER / "dockerd.pid", logs=DOCKER)
        wait("dockerd", lambda: quiet("docker", "version"), 60, logs=DOCKER)
        say("labcluster: the Docker engine is up")
    archive = base()
    # Named by what it is made of, so that a change of its packages is noticed.
    mark = f"localhost/base:{archive.stem}"
    if not quiet("docker", "image", "inspect", BASE_IMAGE, mark):
        sh("docker", "load", "--quiet", "--input", archive, capture_output=True)
        sh("docker", "tag", BASE_IMAGE, mark)
        say(f"labcluster: {BASE_IMAGE} is loaded")


def down() -> None:
    """Stop the engine if it was started here; its images stay."""
    stop(ours("dockerd"))
