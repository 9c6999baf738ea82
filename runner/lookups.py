"""What is looked up for experiments before they start: once for those that ask for the same.

The runs of a sweep differ in a few keys, and share the answers of the backend, of
repositories and hubs, and the files that are copied in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from runner import git
from runner import models as hub
from runner.backends import backend_of
from runner.backends.base import Progress, Resolved
from runner.config.experiment import Experiment
from runner.config.files import walk
from runner.config.parts import ModelConfig, RepoConfig
from runner.errors import InfrastructureError, RunnerError, UsageError
from runner.plan import InputFile, PinnedModel
from runner.settings import Settings

T = TypeVar("T")

DEADLINE_S = 120.0
"""For one repository or model."""

UNASKED: Any = {
    "task": True,
    "score": True,
    "workspace": True,
    "agent": {"script", "model", "max_turns", "max_tokens", "max_cost_usd"},
    "sandbox": {"env", "timeout", "idle_timeout"},
}
"""What no backend looks anything up for: runs that differ in nothing else share what was found."""


@dataclass(frozen=True)
class Kept:
    """A file that goes into the record: where its bytes are, or the bytes."""

    sha256: str
    blob: Path | bytes


class LookUps:
    """What has been looked up with these settings."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is known yet."""
        self.backend = backend_of(settings)
        self._known: dict[Hashable, Any] = {}

    def backend_for(
        self,
        experiment: Experiment,
        *,
        agent: bool,
        folders: Sequence[Path],
        file: str,
        progress: Progress,
    ) -> Resolved:
        """What the backend says to an experiment; raises as its `resolve` does."""
        key = ("backend", experiment.model_dump_json(exclude=UNASKED), agent)
        return self._once(
            key,
            lambda: self.backend.resolve(
                experiment, agent=agent, folders=folders, file=file, progress=progress
            ),
        )

    def commit(self, repo: RepoConfig, found: Resolved, progress: Progress) -> str:
        """The commit that the repository's ref is now."""
        return self._once(("repo", repo), lambda: _commit(repo, found, progress))

    def model(self, model: ModelConfig, found: Resolved, progress: Progress) -> PinnedModel:
        """The model at the commit that its revision is now."""
        return self._once(("model", model), lambda: _pinned(model, found, progress))

    def models(
        self, models: Sequence[ModelConfig], found: Resolved, progress: Progress
    ) -> list[PinnedModel]:
        """All models, and the bases of adapters that are not among them.

        A base of hidden adapters alone is hidden too: it tells much of them.
        """
        named = {model.name: model for model in models}
        told = {model.base_model for model in models if not model.hidden}
        pinned: list[PinnedModel] = []
        bases: dict[str, PinnedModel] = {}
        for model in models:
            at = self.model(model, found, progress)
            if model.base_model is not None:
                own = ModelConfig(name=model.base_model, secret=model.secret)
                base = self.model(named.get(model.base_model, own), found, progress)
                hidden = model.base_model not in told
                bases[model.base_model] = base.model_copy(update={"hidden": hidden})
                at = at.model_copy(update={"base": base.commit})
            pinned.append(at)
        return pinned + [base for name, base in bases.items() if name not in named]

    def inputs(self, experiment: Experiment) -> tuple[list[InputFile], dict[str, Path | bytes]]:
        """Everything that is copied into the workspace: files, directories, libraries."""
        own = experiment.sandbox
        places = [(item.source, item.path) for item in (*own.local_files, *own.local_dirs)]
        places += [(library, library.name) for library in experiment.workspace.libraries]
        inputs, blobs = self._once(("inputs", *places), lambda: self._inputs(places))
        return inputs, dict(blobs)

    def file(self, file: Path) -> Kept:
        """A file that is kept."""
        return self._once(("file", file), lambda: Kept(_sha256(file), file))

    def script(self, file: Path) -> Kept:
        """The steps of a scripted agent."""
        return self._once(("script", file), lambda: _steps(file))

    def _once(self, key: Hashable, look: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = look()
        found: T = self._known[key]
        return found

    def _inputs(
        self, places: Sequence[tuple[Path, str]]
    ) -> tuple[list[InputFile], dict[str, Path | bytes]]:
        inputs: list[InputFile] = []
        blobs: dict[str, Path | bytes] = {}
        for source, place in places:
            for file in _files(source) if source.is_dir() else [source]:
                if "__pycache__" in file.parts:
                    continue
                inner = f"{place}/{file.relative_to(source)}" if source.is_dir() else place
                kept, info = self.file(file), file.stat()
                blobs[kept.sha256] = kept.blob
                mode = info.st_mode & 0o777
                inputs.append(
                    InputFile(path=inner, sha256=kept.sha256, bytes=info.st_size, mode=mode)
                )
        return inputs, blobs


def _commit(repo: RepoConfig, resolved: Resolved, progress: Progress) -> str:
    """The commit that the repository's ref is now."""
    progress(f"looking up {repo.url}")
    try:
        return git.resolve(repo.url, repo.ref, DEADLINE_S)
    except RunnerError as error:
        if not (resolved.clones and repo.ref and git.is_commit(repo.ref)):
            raise
        progress(f"not looked up, as this machine may not: {error.message}")
        return repo.ref.lower()


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
        var_name=model.var_name,
        tokenizer=model.tokenizer,
        apart=model.load_as_peft,
        hidden=model.hidden,
    )


def _found(model: ModelConfig, resolved: Resolved) -> hub.Found:
    own = hub.own_hub()
    endpoint = (resolved.hub or own).rstrip("/")
    token: hub.Token = resolved.secrets.get(model.secret) if model.secret else None
    if resolved.hub and (endpoint != own or not model.secret):
        token = False  # this user's login is for their own hub, and no pod has it
    found = hub.resolve(model.name, model.revision, DEADLINE_S, endpoint=endpoint, token=token)
    if found.gated and resolved.hub is None:
        hub.check_access(model.name, endpoint=endpoint, token=token)
    elif found.gated and not model.secret:
        raise UsageError(
            f"sandbox.models: {model.name} is gated, and pods are logged in nowhere",
            hint=hub.SECRETS,
        )
    return found


def _files(top: Path) -> Iterator[Path]:
    """The files below a directory; a symlink in it counts as what it leads to."""
    for file in walk(top):
        if not file.is_dir():
            yield file
        elif top.resolve().is_relative_to(file.resolve()):
            raise UsageError(f"{file} leads back to {file.resolve()}: it cannot be copied in")
        else:
            yield from _files(file)


def _steps(script: Path) -> Kept:
    from runner.agent.providers.scripted import load as load_script

    steps = json.dumps(load_script(script)).encode()
    return Kept(sha256(steps).hexdigest(), steps)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        digest = sha256()
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
