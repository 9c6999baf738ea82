"""What there is of runs on the engine, whatever became of who started them: for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.backends.docker.explain import is_starting
from runner.backends.docker.names import RUN
from runner.backends.docker.snapshot import Snapshot, snapshots
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Leftover:
    """One run's things. `problem` is empty where nothing is wrong with them."""

    run_id: str
    alive: bool
    problem: str = ""
    mend: str = ""


def leftovers(client: DockerClient) -> Iterator[Leftover]:
    """Of every run that the engine has something of."""
    snaps = snapshots(client)
    with translated("asking for volumes and networks"):
        volumes = client.api.volumes(filters={"label": RUN})["Volumes"] or []
        networks = client.api.networks(filters={"label": RUN})
    others = {item["Labels"][RUN] for item in [*volumes, *networks]}
    now = datetime.now(UTC)
    for run_id in sorted(others | set(snaps)):
        yield _leftover(run_id, snaps.get(run_id), now)


def _leftover(run_id: str, snap: Snapshot | None, now: datetime) -> Leftover:
    delete = f"runner delete --backend docker {run_id}"
    if snap is None:
        words = "no container is left of it, only its volumes, unless its `submit` is at work"
        return Leftover(run_id, False, words, delete)
    if is_starting(snap, now):
        return Leftover(run_id, True)
    main = snap.main
    if main is None or main.state == "created":
        words = "never started: its `submit` was killed, or is at work"
        return Leftover(run_id, snap.alive, words, delete)
    if snap.alive and not main.runs:
        words = "its containers run, and its agent has ended"
        return Leftover(run_id, True, words, f"runner cancel --backend docker {run_id}")
    return Leftover(run_id, snap.alive)
