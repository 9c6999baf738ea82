"""What a table says of a field: its effect on a backend, and the check for when it has none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runner.config import checks
from runner.config.experiment import Experiment
from runner.config.machine import Machine


@dataclass(frozen=True)
class Refusal:
    """Why a field cannot have its value here, and what to do instead."""

    key: str
    expected: str
    found: str
    hint: str


Check = Callable[[Any, Experiment, Machine], Iterator[Refusal]]


@dataclass(frozen=True)
class Row:
    """What a backend does with a field, and the check for when it cannot."""

    effect: str
    check: Check | None = None


def needs(backend: str, instead: str, here: str = "local") -> Check:
    """The check of a field that only another backend can honour."""

    def check(value: Any, _: Experiment, __: Machine) -> Iterator[Refusal]:
        found = str(value).lower() if isinstance(value, bool) else repr(value)
        yield Refusal("", f"no such key on `{here}`: it needs {backend}", found, instead)

    return check


def never(why: str, instead: str) -> Check:
    """The check of a field that is honoured nowhere, or not on this backend."""

    def check(_: Any, __: Experiment, ___: Machine) -> Iterator[Refusal]:
        yield Refusal("", f"no such key in this version: {why}", "", instead)

    return check


def no_hidden_models(value: Any, _: Experiment, __: Machine) -> Iterator[Refusal]:
    """The check where the agent's code can read whatever the user can."""
    for i, model in enumerate(value):
        if model.hidden:
            yield Refusal(
                f"[{i}].hidden",
                "no such key on `local`: the agent's code runs as you, and can read your own cache "
                "of models, where the files are under their name",
                "true",
                "Use --backend docker or kubernetes; or serve the model from a ScopedSandbox "
                "there, of which the agent sees functions alone: docs/seer.md.",
            )


def hidden_models(value: Any, experiment: Experiment, _: Machine) -> Iterator[Refusal]:
    """The check that nothing else in the experiment tells a hidden model's name."""
    shown = [model for model in value if not model.hidden]
    visible = {model.name for model in shown}
    names = {m.base_model: i for i, m in enumerate(value) if m.hidden and m.base_model}
    names = {name: i for name, i in names.items() if name not in visible}
    names |= {model.name: i for i, model in enumerate(value) if model.hidden}
    for i, model in enumerate(value):
        if model.hidden and model.name in visible:
            yield Refusal(
                f"[{i}].hidden",
                "a model that is hidden wherever it is in the list",
                f"{model.name!r} without `hidden` as well",
                "Its files would be there under its name: hide both, or neither.",
            )
        if not model.hidden and model.base_model in names:
            yield Refusal(
                f"[{i}].hidden",
                "true for an adapter whose base is hidden",
                "false",
                "The files of the adapter name its base.",
            )
    for key, text in _told(experiment):
        for name, i in names.items():
            if checks.tells_of_model(text, name):
                yield Refusal(
                    f"[{i}].hidden",
                    f"a name that the agent is not told elsewhere: {name!r}, or its last part",
                    f"it in `{key}`",
                    "Word that differently, or do without `hidden`.",
                )


def _told(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """What an agent reads of its experiment, as text by key."""
    own = experiment.sandbox
    yield "name", experiment.name
    yield "task", experiment.task
    yield "sandbox.env", json.dumps(own.env)
    yield "sandbox.repos", " ".join(repo.url for repo in own.repos)
    yield "sandbox.volumes", " ".join(f"{each.name} {each.path}" for each in own.volumes)
    copied = (*own.local_files, *own.local_dirs)
    yield "sandbox.local_files", " ".join(each.path for each in copied)
    yield "workspace.libraries", " ".join(path.stem for path in experiment.workspace.libraries)


NOWHERE = {
    "sandbox.docker_in_docker": Row(
        "refused",
        never(
            "it needs a privileged container",
            "Run what the containers hold as processes, from python_packages and repos.",
        ),
    ),
    "sandbox.debug": Row(
        "refused",
        never(
            "no editor is served from a sandbox",
            "`runner open` shows the live notebook, `runner shell` gives a shell in the sandbox.",
        ),
    ),
    "sandbox.encrypted_ports": Row(
        "refused",
        never(
            "nothing of a sandbox is published",
            "Use the service from a cell; `runner open` tunnels to the live notebook.",
        ),
    ),
}
"""Fields that no backend honours."""
