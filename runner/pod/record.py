"""`runner.pod record`: the init container that brings the record and what it holds to the pod.

A run that was never in the store comes with the Job's ConfigMap; one that has
been there goes on from what the store has.
"""

from __future__ import annotations

import os
from pathlib import Path

from runner.errors import InfrastructureError, RunnerError
from runner.fill import fill, restore_journal
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step
from runner.record import Record, writer
from runner.record.travel import TRANSCRIPT, unpack

FILLED = ".filled"
"""In the sandbox's state: the workspace was filled, and belongs to the experiment since."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Bring the record, then fill the workspace.

    Without a record nobody could write down what went wrong: that fails the pod.
    """
    try:
        layout.AGENT.touch()
        url = os.environ.get("RUNNER_RECORD_URL")
        if url is None and (pod := os.environ.get("POD_UID")):
            take_over(layout.RECORD, pod)
        arrive(layout.TRAVELLING, layout.RECORD, url)
    except (OSError, RunnerError) as error:
        step.end(f"the record cannot be brought: {error}")
        raise InfrastructureError(f"the record cannot be brought: {error}") from error
    return step.run("filling", work)


def work(plan: RunPlan, log: PhaseLog, end: float) -> None:  # noqa: ARG001
    """Fill the workspace."""
    with log.phase("filling"):
        prepare(plan, layout.RECORD, layout.WORKSPACE, layout.STATE)


def take_over(record: Path, pod: str) -> None:
    """Have the pod before this one, should it still live on a node that was lost, let go of it."""
    writer.claim(record, pod)
    if (record / TRANSCRIPT).exists():
        os.close(Record.open(record).take_lock(writer.LOCK_S))


def arrive(travelling: Path, record: Path, url: str | None) -> None:
    """Have the record in the directory `record`: from the store at `url`, or as it travels.

    A store that is a claim is mounted there (no `url`). Raises
    InfrastructureError where neither the store nor the ConfigMap has it.
    """
    store = None
    if url:
        from runner.store import open_store  # a pod with a claim needs no S3 client

        store = open_store(url)
        store.download(record, withheld=True)
    if not (record / TRANSCRIPT).exists():
        if not travelling.exists():
            raise InfrastructureError(
                f"{url or record}: has no record of this run, and none came with the Job",
                hint="`kubectl get configmap` shows whether it was removed; "
                "`runner resume RUN` brings it again",
            )
        step.say("the record came with the Job")
        with travelling.open("rb") as archive:
            # A client that cancels the run may bring it too, and may have been first.
            unpack(archive, record, packed=True, only_new=True)
        if store is not None:
            store.upload(record)
    else:
        step.say("the record is in the store already; the run goes on from it")


def prepare(plan: RunPlan, path: Path, workspace: Path, state: Path) -> None:
    """Fill the workspace, once in a pod's life, and give the sandbox its journal."""
    record = Record.open(path)
    if not (state / FILLED).exists():
        fill(plan, record, workspace)
        for volume in plan.experiment.sandbox.volumes:
            if not Path(volume.path).is_absolute():
                # Else the container runtime makes it, and what is above it, as root's.
                (workspace / volume.path).mkdir(parents=True, exist_ok=True)
        (state / FILLED).touch()
        step.say("the workspace has what the record holds for it")
    restore_journal(path / "journal.jsonl", state / "journal.jsonl")
