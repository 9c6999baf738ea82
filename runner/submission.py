"""From an experiment file, or a record, to a run that has been started.

Everything that can be checked is checked before anything starts: the file,
the machine, secrets, repositories, packages. A refusal leaves nothing behind.
"""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.backends import backend_of
from runner.backends.base import Backend, Handle, Progress
from runner.config.experiment import Experiment
from runner.config.load import check_provider, load, parse
from runner.errors import ConfigError, RecordError, UsageError
from runner.lookups import LookUps
from runner.names import new_run_id
from runner.plan import RunPlan, gpu_idle_timeout_s, make_plan, plan_in_force
from runner.record import Record, now, read_lines
from runner.secrets import SecretValues
from runner.settings import Settings

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
    "sandbox.gpu_idle_timeout",
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
    if is_record(source):
        return repeat(source, settings, overrides, progress)
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
    looked: LookUps | None = None,
) -> Submission:
    """Resolve an experiment whose files are on this machine. `agent=False`: a sandbox alone.

    `looked` is what was looked up for others, which is not looked up again.
    """
    check_price(experiment, settings, file)
    looked = looked or LookUps(settings)
    folders = [folder.absolute(), Path.cwd()]
    resolved = looked.backend_for(
        experiment, agent=agent, folders=folders, file=file, progress=progress
    )
    inputs, blobs = looked.inputs(experiment)
    score = looked.file(experiment.score) if experiment.score else None
    script = looked.script(experiment.agent.script) if agent and experiment.agent.script else None
    plan = make_plan(
        experiment,
        settings,
        run_id=new_run_id(experiment.name, datetime.now(UTC)),
        author=getpass.getuser(),
        created=now(),
        commits=[looked.commit(repo, resolved, progress) for repo in experiment.sandbox.repos],
        models=looked.models(experiment.sandbox.models, resolved, progress),
        python=resolved.python,
        packages=resolved.packages,
        inputs=inputs,
        score=score.sha256 if score else None,
        script=script.sha256 if script else None,
        gpus=resolved.gpus,
        images=resolved.images,
        gpu_hour_usd=resolved.gpu_hour_usd,
        gpu_idle_timeout=resolved.gpu_idle_timeout,
        agent=agent,
    )
    blobs |= {item.sha256: item.blob for item in (score, script) if item}
    return Submission(plan, resolved.secrets, blobs)


def start(submission: Submission, settings: Settings, backend: Backend | None = None) -> Handle:
    """Make the record and start the run; when it cannot be started, nothing is left behind."""
    plan = submission.plan

    def fill(made: Record) -> None:
        for sha, blob in submission.blobs.items():
            _add(made, sha, blob)

    runs = Path(settings.runs).absolute()
    record = Record.create(runs, plan.run_id, plan.record(), fill=fill)
    try:
        record.close()
        return (backend or backend_of(settings)).create(plan, submission.secrets)
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
    if Record.open(path).state().attempts:
        _refuse_scripted(plan)
    plan, secrets = _allowed(plan, settings, str(path))
    return backend_of(settings).resume(plan, secrets)


def is_record(source: Path) -> bool:
    """Whether it is the directory of a record, which is to be repeated, and not a file."""
    return (source / "transcript.jsonl").is_file()


def repeat(
    path: Path,
    settings: Settings,
    overrides: Mapping[str, Any] | None,
    progress: Progress,
    *,
    agent: bool = True,
) -> Submission:
    """The same run again: the same commits, pins, inputs and task, under a new id.

    `agent=False`: its sandbox alone.
    """
    progress("reading the record")
    earlier = _overridden(plan_of(path), overrides or {}, settings, str(path))
    _refuse_scripted(earlier)
    record = Record.open(path)
    kept = {earlier.score, earlier.script, *(item.sha256 for item in earlier.inputs)} - {None}
    plan = earlier.model_copy(
        update={
            "run_id": new_run_id(earlier.name, datetime.now(UTC)),
            "author": getpass.getuser(),
            "created": now(),
            "backend": settings.backend,
            "repeats": earlier.run_id,
            "sweep": None,
            "agent": agent,
        }
    )
    plan, secrets = _allowed(plan, settings, str(path))
    blobs = {sha: record.input(sha) for sha in sorted(filter(None, kept))}
    return Submission(plan, secrets, blobs)


def _refuse_scripted(plan: RunPlan) -> None:
    if not plan.agent:
        raise UsageError(
            f"run {plan.run_id} was driven by a script, and nothing else can go on with it or "
            "repeat it",
            hint="run the script again",
        )


def _allowed(plan: RunPlan, settings: Settings, file: str) -> tuple[RunPlan, SecretValues]:
    """The plan as it can be carried out here, which may be another machine than before."""
    if plan.agent:
        check_price(plan.experiment, settings, file)
    here = backend_of(settings).allowed(plan, folders=[Path.cwd()], file=file)
    update = {
        "gpus": here.gpus,
        "images": here.images,
        "python": here.python,
        "gpu_hour_usd": here.gpu_hour_usd,
        "gpu_idle_timeout_s": gpu_idle_timeout_s(plan.experiment.sandbox, here.gpu_idle_timeout),
    }
    return plan.model_copy(update=update), here.secrets


def _overridden(
    plan: RunPlan, overrides: Mapping[str, Any], settings: Settings, file: str
) -> RunPlan:
    """The plan with other bounds; raises ConfigError for a key that what was resolved hangs on."""
    if not overrides:
        return plan
    data = plan.experiment.model_dump(mode="json")
    check_provider(data["agent"], overrides)
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


def check_price(experiment: Experiment, settings: Settings, file: str) -> None:
    """Refuse a bound in dollars where nobody knows the model's price; raises ConfigError."""
    agent = experiment.agent
    if agent.max_cost_usd is not None and agent.model and settings.price(agent.model) is None:
        raise ConfigError(
            file=file,
            key="agent.max_cost_usd",
            expected=f"a model whose price is known, or the price of {agent.model} in the settings",
            found="no price",
            hint=f'add [prices."{agent.model}"] with input, output, cache_read, cache_write',
        )
