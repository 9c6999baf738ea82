"""The lab of the tests on a cluster: a namespace with the chart in it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import this_machine
from tiny_runs import Lab, Run, until

from runner.backends.kubernetes import objects
from runner.backends.kubernetes.backend import KubernetesBackend
from runner.backends.kubernetes.client import Client

CA_BUNDLE = "runner-ca"
"""Of this machine, which is the node; version 1, as it has."""


@contextlib.contextmanager
def trusted(client: Client, ca: Path) -> Iterator[None]:
    """The CA bundle of the chart of the tests, with one more."""
    before = client.read("configmaps", CA_BUNDLE)["data"]["ca.crt"]
    more = {"data": {"ca.crt": f"{before}\n{ca.read_text()}"}}
    client.patch("configmaps", CA_BUNDLE, more)
    try:
        yield
    finally:
        client.patch("configmaps", CA_BUNDLE, {"data": {"ca.crt": before}})


class ClusterLab(Lab):
    """Runs on a cluster, in a namespace where the chart is installed; `client` is its admin's."""

    started: ClassVar[set[str]] = set()

    def __init__(self, top: Path, namespace: str, client: Client, **settings: Any) -> None:
        given = {"backend": "kubernetes", "kubernetes": {"namespace": namespace}, **settings}
        super().__init__(top, **given)
        self.address = this_machine.address()
        self.client = client

    @property
    def env(self) -> dict[str, str]:
        """By which another process uses the lab."""
        namespace = self.settings.kubernetes.namespace
        return super().env | {"RUNNER_KUBERNETES__NAMESPACE": namespace or ""}

    def adopt(self, handle: Any) -> Run:
        self.started.add(handle.run_id)
        return super().adopt(handle)

    @contextlib.contextmanager
    def secrets(self, **values: str) -> Iterator[None]:
        """Keys of the team's Secret."""
        self._patch_secret(dict(values))
        try:
            yield
        finally:
            self._patch_secret(dict.fromkeys(values))

    def _patch_secret(self, values: dict[str, str | None]) -> None:
        assert isinstance(self.backend, KubernetesBackend)
        encoded = {
            name: None if value is None else base64.b64encode(value.encode()).decode()
            for name, value in values.items()
        }
        self.client.patch("secrets", self.backend.cluster.secrets.default, {"data": encoded})

    @contextlib.contextmanager
    def trusting(self, ca: Path) -> Iterator[None]:
        """Let this machine's git, and the pods', trust a CA."""
        with trusted(self.client, ca), pytest.MonkeyPatch.context() as patch:
            patch.setenv("GIT_SSL_CAINFO", str(ca))
            yield

    def traces(self, run: Run) -> Iterator[tuple[str, bytes]]:
        """Every object of the run but its Secret, and what its containers printed."""
        for kind, items in self.objects(run.run_id).items():
            if kind != "secrets":
                yield kind, json.dumps(items).encode()
        yield "log", run.log().encode()

    def cgroups(self, run: Run) -> list[str]:
        pods = self.client.list("pods", labels=f"runner/run={run.run_id}")
        return [pod["metadata"]["uid"] for pod in pods]

    def objects(self, run_id: str) -> dict[str, list[dict[str, Any]]]:
        """The run's objects, as the API gives them."""
        kinds = ("jobs", "pods", "configmaps", "secrets")
        return {kind: self.client.list(kind, labels=f"runner/run={run_id}") for kind in kinds}

    def unused(self) -> bool:
        return set(objects.snapshots(self.client)) <= self.started

    def close(self) -> None:
        for run in self.runs:
            self.backend.delete(run.handle)
            until(
                lambda run=run: not any(self.objects(run.run_id).values()),
                f"nothing of {run.run_id} is left",
                60,
            )
