"""Snapshots: what a sandbox has in its workspace and its Python, kept as a record of its own.

It is listed, fetched, verified and deleted as a run, and is where the backend keeps records.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from runner import archives
from runner.api.driven import say
from runner.api.served import PLACE as SERVING
from runner.backends import backend_of
from runner.config.parts import RepoConfig
from runner.config.sandbox import SandboxConfig
from runner.errors import RecordError, RunnerError, UsageError
from runner.names import new_run_id
from runner.plan import RunPlan
from runner.record import Record, now, read_lines
from runner.session import Session
from runner.settings import Settings
from runner.submission import plan_of

WORKSPACE = "workspace.tar"
WITHOUT = (
    "the kernel's memory",
    "the notebook and what ran, which are in the record of its run",
    "values of secrets, which are *** in its files",
    "volumes and models, which are where they were",
    "what was put outside of the workspace, but for Python packages",
    "links that lead out of the workspace",
)
"""What a snapshot does not have."""
_INSTALLED = """
import importlib.metadata, json
found = {}
for item in importlib.metadata.distributions():
    name, said = item.metadata["Name"], json.loads(item.read_text("direct_url.json") or "null")
    if said is None:
        found[name] = f"{name}=={item.version}"
    elif "vcs_info" in said:
        info = said["vcs_info"]
        found[name] = f"{name} @ {info['vcs']}+{said['url']}@{info['commit_id']}"
print(json.dumps(sorted(found.values())))
"""
"""Every package of this Python as it can be installed again; a directory's cannot, and a repo's
comes with its clone."""


@dataclass(frozen=True)
class Snapshot:
    """One that was taken: `id` is that of its record, `of` the run whose sandbox it is of."""

    id: str
    of: str
    record: Path
    bytes: int
    without = WITHOUT

    def __str__(self) -> str:
        """Its id, by which `Sandbox.from_snapshot` and `runner fetch` know it."""
        return self.id


def take(session: Session, plan: RunPlan, settings: Settings) -> Snapshot:
    """Keep what a sandbox has, while nothing runs there.

    Raises UsageError while a cell or command runs, and RunnerError where it cannot be taken: then
    nothing of it is left. Where the backend's store is away it is kept on this machine.
    """
    info = session.info()
    if busy := [op for op in info["running"] if not op.startswith("serve-")]:
        raise UsageError(
            f"a cell or command runs in {plan.run_id} ({busy[0]}): a snapshot would have half of "
            "what it writes",
            hint="wait for it, or interrupt it, first",
        )
    made = plan.model_copy(
        update={
            "run_id": new_run_id(f"{plan.name}-snapshot", datetime.now(UTC)),
            "created": now(),
            "backend": settings.backend,
            "packages": _installed(session),
            # What was copied in is among its files.
            "inputs": (),
            "score": None,
            "script": None,
            "agent": False,
            "repeats": None,
            "sweep": None,
        }
    )
    runs = Path(settings.runs).absolute()
    record = Record.create(runs, made.run_id, made.record())
    lock = record.take_lock()
    try:
        size = _keep(session, plan, record, info["boot"])
    except BaseException:
        record.close()
        shutil.rmtree(record.path, ignore_errors=True)
        raise
    finally:
        os.close(lock)
    backend = backend_of(settings)
    try:
        backend.keep(backend.attach(made.run_id))
    except RunnerError as error:
        say(f"the snapshot stays in {record.path}: {error}")
    return Snapshot(made.run_id, plan.run_id, record.path, size)


def find(snapshot: Snapshot | str, settings: Settings) -> tuple[Snapshot, RunPlan]:
    """A snapshot by its id, brought here from where the backend keeps records.

    Raises UsageError for what is none, RecordError for one that was altered, and RunNotFound.
    """
    backend = backend_of(settings)
    handle = backend.attach(str(snapshot))
    path = Path(settings.runs).absolute() / handle.run_id
    if not path.is_dir():
        backend.sync(handle)
    lines = [line for line, _ in read_lines(path / "transcript.jsonl")]
    taken = next((line for line in lines if line["type"] == "snapshot"), None)
    if taken is None:
        raise UsageError(
            f"{handle.run_id} is no snapshot but a run",
            hint="`sandbox.snapshot()` returns the id of one",
        )
    with (path / "outputs" / WORKSPACE).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != taken["sha256"]:
        raise RecordError(f"{path}: {WORKSPACE} is not what was kept; it was altered")
    return Snapshot(handle.run_id, taken["of"], path, taken["bytes"]), plan_of(path)


def config_of(plan: RunPlan) -> SandboxConfig:
    """What the sandbox of a snapshot was asked for, with what it had come to."""
    sandbox = plan.experiment.sandbox
    repos = [RepoConfig(url=repo.url, ref=repo.commit, install=repo.install) for repo in plan.repos]
    commits = {(model.name, model.revision or "main"): model.commit for model in plan.models}
    models = [
        model.model_copy(update={"revision": commits[model.name, model.revision or "main"]})
        for model in sandbox.models
    ]
    changes: dict[str, Any] = {"repos": tuple(repos), "models": tuple(models)}
    return sandbox.model_copy(update=changes | {"local_files": (), "local_dirs": ()})


def with_packages(config: SandboxConfig, plan: RunPlan) -> SandboxConfig:
    """The same with the packages of a snapshot, as they were installed."""
    packages = {"python_packages": config.packages + plan.packages, "notebook_packages": ()}
    return config.model_copy(update=packages)


def restore(session: Session, snapshot: Snapshot, plan: RunPlan) -> None:
    """Put a snapshot's files into the workspace of a sandbox that has just started.

    Of what is cloned there, what the snapshot has not is removed.
    """
    with (snapshot.record / "outputs" / WORKSPACE).open("rb") as file:
        result = session.unpack(file)
        if result.state != "ok":
            raise RecordError(f"{snapshot.id}: its files cannot be put in place: {result.reason}")
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            names = {member.name.removeprefix("./") for member in tar}
    for repo in plan.repos:
        there = session.tree(repo.name, recursive=True)
        left = [f"{repo.name}/{entry['path']}" for entry in there if entry["type"] != "directory"]
        gone = [path for path in left if path not in names]
        # As many as an argument list takes.
        for start in range(0, len(gone), 200):
            words = " ".join(map(shlex.quote, gone[start : start + 200]))
            session.shell(f"rm -f -- {words}")


def _keep(session: Session, plan: RunPlan, record: Record, boot: str) -> int:
    record.say(
        "attempt",
        attempt=1,
        reason=f"a snapshot of {plan.run_id}",
        host=platform.node(),
        pid=os.getpid(),
    )
    sandbox = plan.experiment.sandbox
    apart = [volume.path for volume in sandbox.volumes] + [SERVING, "notebook.ipynb"]
    apart += [".cache"] if plan.models else []
    with tempfile.TemporaryFile(dir=record.path) as whole, tempfile.TemporaryFile() as inside:
        session.pack(whole, exclude=apart)
        whole.seek(0)
        _inside(whole, inside)
        inside.seek(0)
        item = record.add_output(WORKSPACE, iter(lambda: inside.read(1 << 20), b""))
    record.say("outputs", files=[item])
    kept = {"bytes": item["bytes"], "sha256": item["sha256"]}
    record.say("snapshot", of=plan.run_id, boot=boot, without=WITHOUT, **kept)
    reason = f"a snapshot of {plan.run_id}, without {', '.join(WITHOUT)}"
    journal = record.journal_mark()
    record.say("end", state="done", reason=reason, bound=None, exit_status=0, journal=journal)
    record.close()
    return int(item["bytes"])


def _inside(whole: IO[bytes], into: IO[bytes]) -> None:
    """Copy a tar without links that lead out of it, which nobody would unpack."""
    with tarfile.open(fileobj=whole) as tar, tarfile.open(fileobj=into, mode="w") as kept:
        for member in tar:
            if not archives.leads_out(member, Path("/workspace")):
                kept.addfile(member, tar.extractfile(member) if member.isreg() else None)


def _installed(session: Session) -> tuple[str, ...]:
    result = session.shell(f"python -c {shlex.quote(_INSTALLED)}")
    if result.state != "ok" or result.exit:
        raise RunnerError(f"the packages of the sandbox cannot be listed: {result.text[-500:]}")
    return tuple(json.loads(result.text))
