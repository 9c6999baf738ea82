"""The lab of the tests on a Docker engine."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import this_machine
from docker import DockerClient
from docker.errors import NotFound
from tiny_runs import Lab, Run

from runner.backends.docker.names import RUN
from runner.backends.docker.snapshot import Snapshot, snapshots
from runner.images.build import find_base
from runner.images.definition import read
from runner.images.engine import connected

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def is_mine(snap: Snapshot) -> bool:
    """Whether this process started it: other workers use the engine too."""
    return snap.labels["runner.owner"] == getpass.getuser()


def images(client: DockerClient) -> dict[str, Any]:
    """Those of just this source, as the Makefile builds them."""
    base = find_base(client, os.environ["TEST_BASE"], lambda _: None)
    sandbox, agent = (context.tag(base.id) for context in read(["base", "agent"]))
    return {"images": [sandbox], "agent": agent}


class DockerLab(Lab):
    """Runs on the engine, with the images that the Makefile has built there."""

    started: ClassVar[set[str]] = set()

    def __init__(self, top: Path, **settings: Any) -> None:
        self.ca = top / "ca.crt"
        self.ca.write_bytes(AUTHORITIES.read_bytes())
        self._open = contextlib.ExitStack()
        self.client: DockerClient = self._open.enter_context(connected())
        docker = images(self.client) | settings.pop("docker", {})
        given = {"docker": docker, "network": {"ca_bundle": self.ca}, **settings}
        super().__init__(top, backend="docker", **given)
        self.address = this_machine.address()

    @property
    def env(self) -> dict[str, str]:
        """By which another process uses the lab."""
        docker = self.settings.docker
        return super().env | {
            "RUNNER_DOCKER__AGENT": docker.agent or "",
            "RUNNER_DOCKER__IMAGES": json.dumps(docker.images),
            "RUNNER_NETWORK__CA_BUNDLE": str(self.ca),
        }

    def adopt(self, handle: Any) -> Run:
        self.started.add(handle.run_id)
        return super().adopt(handle)

    @contextlib.contextmanager
    def trusting(self, ca: Path) -> Iterator[None]:
        """Let this machine's git, and the containers', trust a CA."""
        before = self.ca.read_text()
        self.ca.write_text(f"{before}\n{ca.read_text()}")
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GIT_SSL_CAINFO", str(ca))
                yield
        finally:
            self.ca.write_text(before)

    def traces(self, run: Run) -> Iterator[tuple[str, bytes]]:
        """What the engine tells of the run's things, their logs, and what is on its volumes."""
        for kind, items in self.things(run.run_id).items():
            yield kind, json.dumps(items).encode()
        yield "log", run.log().encode()
        for step, place in (("sandbox", "/sandbox"), ("sandbox", "/etc/runner")):
            yield from self.files(run.run_id, step, place)

    def files(self, run_id: str, step: str, place: str) -> Iterator[tuple[str, bytes]]:
        """The files below a directory of a container, also of one that has ended."""
        container = snapshots(self.client, run_id)[run_id].get(step)
        assert container is not None
        pieces, _ = self.client.api.get_archive(container.id, place)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            for member in archive:
                if file := archive.extractfile(member):
                    yield f"{step}:{member.name}", file.read()

    def cgroups(self, run: Run) -> list[str]:
        snap = snapshots(self.client, run.run_id).get(run.run_id)
        return [container.id for container in snap.containers] if snap else []

    def things(self, run_id: str) -> dict[str, list[dict[str, Any]]]:
        """What there is of a run, as the engine tells it."""
        api, wanted = self.client.api, {"label": f"{RUN}={run_id}"}
        found = []
        for item in api.containers(all=True, filters=wanted):
            with contextlib.suppress(NotFound):  # it goes by itself when nobody uses it
                found.append(api.inspect_container(item["Id"]))
        return {
            "containers": found,
            "volumes": api.volumes(filters=wanted)["Volumes"] or [],
            "networks": api.networks(filters=wanted),
        }

    def unused(self) -> bool:
        mine = [run for run, snap in snapshots(self.client).items() if is_mine(snap)]
        return set(mine) <= self.started

    def close(self) -> None:
        for run in self.runs:
            self.backend.delete(run.handle)
            left = self.things(run.run_id)
            assert [item["Name"] for item in left["volumes"]] == [f"{run.run_id}-record"]
            self.backend.delete_record(run.handle)
            assert not any(self.things(run.run_id).values())
        self._open.close()
