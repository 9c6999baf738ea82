"""From an experiment file, or a record, to a run that has been started.

Everything that can be checked is checked before anything starts: the file,
the machine, secrets, repositories, packages. A refusal leaves nothing behind.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from runner import git
from runner import models as hub
from runner.backends import backend_of
from runner.backends.base import Handle, Progress, Resolved
from runner.config import Experiment, load, parse
from runner.config.files import walk
from runner.config.parts import ModelConfig
from runner.errors import (
    ConfigError,
    InfrastructureError,
    RecordError,
    RunnerError,
    UsageError,
)
from runner.names import new_run_id
from runner.plan import InputFile, PinnedModel, RunPlan, make_plan, plan_in_force
from runner.record import Record, now, read_lines
from runner.secrets import SecretValues
from runner.settings import Settings

LOOK_UP_DEADLINE_S = 120.0
"""For one repository."""

CHANGEABLE = (
    "agent.provider",
    "agent.script",
    "agent.model",
    "agent.base_url",
    "agent.max_turns",
    "agent.max_tokens",
    "agent.max_cost_usd",
    "sandbox.timeout",
    "sandbox.idle_timeout",
)
"""What may differ from a record that is resumed or repeated."""


@dataclass(frozen=True)
class Submission:
    """A run that can be started: the plan, its secrets' values, its inputs by SHA-256."""

    plan: RunPlan
    secrets: SecretValues
    blobs: Mapping[str, Path | bytes] = field(repr=False)


def prepare(
    source: Path,
    settings: Settings,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> Submission:
    """Check an experiment file, or a record to repeat, and resolve all it names.

    `overrides` are dotted keys from the command line. Raises UsageError and
    ConfigError (exit 2) for what the user can mend, InfrastructureError
    (exit 3) when a look-up has no answer.
    """
    if (source / "transcript.jsonl").is_file():
        return _repeat(source, settings, overrides, progress)
    experiment = load(source, overrides)
    return from_experiment(experiment, settings, source.parent, str(source), progress)


def from_experiment(
    experiment: Experiment,
    settings: Settings,
    folder: Path,
    file: str = "experiment",
    progress: Progress = lambda _: None,
    *,
    agent: bool = True,
) -> Submission:
    """Resolve an experiment whose files are on this machine. `agent=False`: a sandbox alone."""
    _check_price(experiment, settings, file)
    resolved = backend_of(settings).resolve(
        experiment,
        agent=agent,
        folders=[folder.absolute(), Path.cwd()],
        file=file,
        progress=progress,
    )
    blobs: dict[str, Path | bytes] = {}
    score = _keep(blobs, experiment.score) if experiment.score else None
    script = _script(blobs, experiment.agent.script) if agent and experiment.agent.script else None
    inputs = _inputs(blobs, experiment)
    commits = []
    for repo in experiment.sandbox.repos:
        progress(f"looking up {repo.url}")
        try:
            commits.append(git.resolve(repo.url, repo.ref, LOOK_UP_DEADLINE_S))
        except RunnerError as error:
            if not (resolved.clones and repo.ref and git.is_commit(repo.ref)):
                raise
            progress(f"not looked up, as this machine may not: {error.message}")
            commits.append(repo.ref.lower())
    models = [_pinned(model, resolved, progress) for model in experiment.sandbox.models]
    plan = make_plan(
        experiment,
        settings,
        run_id=new_run_id(experiment.name, datetime.now(UTC)),
        author=getpass.getuser(),
        created=now(),
        commits=commits,
        models=models,
        python=resolved.python,
        packages=resolved.packages,
        inputs=inputs,
        score=score,
        script=script,
        gpus=resolved.gpus,
        images=resolved.images,
        gpu_hour_usd=resolved.gpu_hour_usd,
        agent=agent,
    )
    return Submission(plan, resolved.secrets, blobs)


def _pinned(model: ModelConfig, resolved: Resolved, progress: Progress) -> PinnedModel:
    """The model at the commit that its revision is now."""
    progress(f"looking up the model {model.name}")
    try:
        found = _found(model, resolved)
    except RunnerError as error:
        # The pods may reach what this machine may not, and their secret may read it.
        theirs = isinstance(error, InfrastructureError) or model.secret is not None
        if not (resolved.hub and theirs and model.revision and git.is_commit(model.revision)):
            raise
        progress(f"not looked up, as this machine may not: {error.message}")
        found = hub.Found(model.revision.lower(), None)
    return PinnedModel(
        name=model.name,
        revision=model.revision,
        commit=found.commit,
        size=found.size,
        secret=model.secret,
    )


def _found(model: ModelConfig, resolved: Resolved) -> hub.Found:
    own = hub.own_hub()
    endpoint = (resolved.hub or own).rstrip("/")
    token: hub.Token = resolved.secrets.get(model.secret) if model.secret else None
    if resolved.hub and (endpoint != own or not model.secret):
        token = False  # this user's login is for their own hub, and no pod has it
    found = hub.resolve(
        model.name, model.revision, LOOK_UP_DEADLINE_S, endpoint=endpoint, token=token
    )
    if found.gated and resolved.hub is None:
        hub.check_access(model.name, endpoint=endpoint, token=token)
    elif found.gated and not model.secret:
        raise UsageError(
            f"sandbox.models: {model.name} is gated, and pods are logged in nowhere",
            hint=hub.SECRETS,
        )
    return found


def start(submission: Submission, settings: Settings) -> Handle:
    """Make the record and start the run; when it cannot be started, nothing is left behind."""
    plan = submission.plan
    record = Record.create(Path(settings.runs).absolute(), plan.run_id, plan.record())
    try:
        lock = record.take_lock()
        try:
            for sha, blob in submission.blobs.items():
                _add(record, sha, blob)
            record.close()
        finally:
            os.close(lock)
        return backend_of(settings).create(plan, submission.secrets)
    except BaseException:
        shutil.rmtree(record.path, ignore_errors=True)
        raise


def _add(record: Record, sha: str, blob: Path | bytes) -> None:
    try:
        data = blob if isinstance(blob, bytes) else blob.read_bytes()
    except OSError as error:
        raise UsageError(f"{blob!s} cannot be read: {error.strerror}") from error
    if record.add_input(data) != sha:
        raise UsageError(f"{blob!s} was changed while it was submitted", hint="submit it again")


def plan_of(path: Path) -> RunPlan:
    """The plan that is in force in a record.

    Raises RecordError for one that this version cannot read.
    """
    made_by = Record.open(path).state().versions.get("runner", "unknown")
    try:
        return plan_in_force(line for line, _ in read_lines(path / "transcript.jsonl"))
    except ValueError as error:
        raise RecordError(
            f"{path}: its plan cannot be read by this version: {error}",
            hint=f"it was made by runner {made_by}",
        ) from error


def resume(path: Path, settings: Settings, overrides: Mapping[str, Any]) -> Handle:
    """Go on with a run from its record, with other bounds if `overrides` has any.

    Raises UsageError for a run that goes on, or whose secrets are missing.
    """
    plan = _overridden(plan_of(path), overrides, settings, str(path))
    plan, secrets = _allowed(plan, settings, str(path))
    return backend_of(settings).resume(plan, secrets)


def _repeat(
    path: Path, settings: Settings, overrides: Mapping[str, Any] | None, progress: Progress
) -> Submission:
    """The same run again: the same commits, pins, inputs and task, under a new id."""
    progress("reading the record")
    earlier = _overridden(plan_of(path), overrides or {}, settings, str(path))
    record = Record.open(path)
    kept = {earlier.score, earlier.script, *(item.sha256 for item in earlier.inputs)} - {None}
    plan = earlier.model_copy(
        update={
            "run_id": new_run_id(earlier.name, datetime.now(UTC)),
            "author": getpass.getuser(),
            "created": now(),
            "backend": settings.backend,
            "repeats": earlier.run_id,
        }
    )
    plan, secrets = _allowed(plan, settings, str(path))
    blobs = {sha: record.input(sha) for sha in sorted(filter(None, kept))}
    return Submission(plan, secrets, blobs)


def _allowed(plan: RunPlan, settings: Settings, file: str) -> tuple[RunPlan, SecretValues]:
    """The plan as it can be carried out here, which may be another machine than before."""
    _check_price(plan.experiment, settings, file)
    here = backend_of(settings).allowed(plan, folders=[Path.cwd()], file=file)
    update = {"gpus": here.gpus, "images": here.images, "python": here.python}
    return plan.model_copy(update=update), here.secrets


def _overridden(
    plan: RunPlan, overrides: Mapping[str, Any], settings: Settings, file: str
) -> RunPlan:
    """The plan with other bounds; raises ConfigError for a key that what was resolved hangs on."""
    if not overrides:
        return plan
    data = plan.experiment.model_dump(mode="json")
    for key, value in overrides.items():
        table, _, name = key.partition(".")
        if key not in CHANGEABLE:
            raise ConfigError(
                file=file,
                key=key,
                expected=f"one of {', '.join(CHANGEABLE)}: the rest of a run is in its record",
                hint="submit the experiment's own file, changed, for another run",
            )
        data[table][name] = value
    if overrides.get("agent.script"):
        raise ConfigError(file=file, key="agent.script", expected="none: a record has its own")
    experiment = parse(data, folder=None, file=file)
    model = experiment.agent.model
    price = settings.price(model) if model else None
    script = plan.script if experiment.agent.script else None
    changes = {"experiment": experiment, "price": price, "script": script}
    return plan.model_copy(update=changes)


def _check_price(experiment: Experiment, settings: Settings, file: str) -> None:
    """Refuse a bound in dollars where nobody knows the model's price."""
    agent = experiment.agent
    if agent.max_cost_usd is not None and agent.model and settings.price(agent.model) is None:
        raise ConfigError(
            file=file,
            key="agent.max_cost_usd",
            expected=f"a model whose price is known, or the price of {agent.model} in the settings",
            found="no price",
            hint=f'add [prices."{agent.model}"] with input, output, cache_read, cache_write',
        )


def _inputs(blobs: dict[str, Path | bytes], experiment: Experiment) -> list[InputFile]:
    """Everything that is copied into the workspace: files, directories, libraries."""
    places: list[tuple[Path, str]] = []
    for copied in (*experiment.sandbox.local_files, *experiment.sandbox.local_dirs):
        places.append((copied.source, copied.path))
    places += [(library, library.name) for library in experiment.workspace.libraries]
    inputs = []
    for source, place in places:
        for file in _files(source) if source.is_dir() else [source]:
            if "__pycache__" in file.parts:
                continue
            inner = f"{place}/{file.relative_to(source)}" if source.is_dir() else place
            sha = _keep(blobs, file)
            info = file.stat()
            inputs.append(
                InputFile(path=inner, sha256=sha, bytes=info.st_size, mode=info.st_mode & 0o777)
            )
    return inputs


def _files(top: Path) -> Iterator[Path]:
    """The files below a directory; a symlink in it counts as what it leads to."""
    for file in walk(top):
        if not file.is_dir():
            yield file
        elif top.resolve().is_relative_to(file.resolve()):
            raise UsageError(f"{file} leads back to {file.resolve()}: it cannot be copied in")
        else:
            yield from _files(file)


def _script(blobs: dict[str, Path | bytes], script: Path) -> str:
    from runner.agent.providers.scripted import load as load_script

    steps = json.dumps(load_script(script)).encode()
    sha = sha256(steps).hexdigest()
    blobs[sha] = steps
    return sha


def _keep(blobs: dict[str, Path | bytes], file: Path) -> str:
    with file.open("rb") as content:
        digest = sha256()
        while piece := content.read(1 << 20):
            digest.update(piece)
    blobs[digest.hexdigest()] = file
    return digest.hexdigest()
