"""What the engine says of a run's containers, as frozen values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.backends.docker.names import RUN, STEP, STORE
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient

NEVER = "0001-01-01T00:00:00Z"
"""What the engine says of a time that has not come."""


@dataclass(frozen=True)
class Container:
    """One container of a run, by its name there."""

    step: str
    id: str
    image: str
    """Id of the image that it was made from."""
    state: str
    """As the engine calls it: created, running, paused, restarting, exited, dead."""
    created: str
    started: str | None
    finished: str | None
    exit_code: int
    oom_killed: bool
    error: str
    """Why the engine could not start it."""
    memory: int
    """Bytes that it may use."""
    labels: Mapping[str, str] = field(repr=False)

    @property
    def runs(self) -> bool:
        """Whether it has processes."""
        return self.state in ("running", "paused", "restarting")

    @property
    def over(self) -> bool:
        """Whether it ran, and does not any more."""
        return self.state in ("exited", "dead")


@dataclass(frozen=True)
class Snapshot:
    """A run's containers, those that were made first before the others; maybe none."""

    containers: tuple[Container, ...] = ()

    def get(self, step: str) -> Container | None:
        """The container of this name."""
        return next((item for item in self.containers if item.step == step), None)

    def without(self, step: str) -> Snapshot:
        """The others."""
        return Snapshot(tuple(item for item in self.containers if item.step != step))

    @property
    def alive(self) -> bool:
        """Whether any of them runs."""
        return any(item.runs for item in self.containers)

    @property
    def labels(self) -> Mapping[str, str]:
        """What they say of their run."""
        return self.containers[0].labels if self.containers else {}

    @property
    def main(self) -> Container | None:
        """The one whose end is the run's: the agent, or a sandbox that is alone."""
        return self.get("sandbox" if self.labels.get("runner.alone") == "true" else "agent")


def container_of(told: Mapping[str, Any]) -> Container:
    """Out of what `docker inspect` shows."""
    state, labels = told["State"], told["Config"]["Labels"] or {}
    return Container(
        step=labels.get(STEP, ""),
        id=told["Id"],
        image=told["Image"],
        state=state["Status"],
        created=time_of(told["Created"]) or "",
        started=time_of(state["StartedAt"]),
        finished=time_of(state["FinishedAt"]),
        exit_code=state["ExitCode"],
        oom_killed=bool(state["OOMKilled"]),
        error=state.get("Error") or "",
        memory=told["HostConfig"].get("Memory") or 0,
        labels=labels,
    )


def time_of(text: str) -> str | None:
    """ISO 8601 in milliseconds, as records spell it; None for a time that has not come."""
    if text == NEVER:
        return None
    # The engine tells nanoseconds, and leaves zeros at the end out.
    whole, _, fraction = text.rstrip("Z").partition(".")
    return f"{datetime.fromisoformat(whole).isoformat()}.{fraction[:3]:0<3}Z"


def snapshots(client: DockerClient, run_id: str | None = None) -> dict[str, Snapshot]:
    """What there is of this run, or of every one, by the run's id."""
    from docker.errors import NotFound

    found: dict[str, list[Container]] = {}
    wanted = RUN if run_id is None else f"{RUN}={run_id}"
    with translated("asking for containers"):
        for item in client.api.containers(all=True, filters={"label": [wanted, STEP]}):
            labels = item["Labels"]
            if labels[STEP] == STORE:
                continue
            with contextlib.suppress(NotFound):  # removed meanwhile
                container = container_of(client.api.inspect_container(item["Id"]))
                found.setdefault(labels[RUN], []).append(container)
    return {run: Snapshot(_in_order(items)) for run, items in found.items()}


def snapshot(client: DockerClient, run_id: str) -> Snapshot:
    """What there is of one run."""
    return snapshots(client, run_id).get(run_id, Snapshot())


def _in_order(items: Iterable[Container]) -> tuple[Container, ...]:
    return tuple(sorted(items, key=lambda item: item.created))
