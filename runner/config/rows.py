"""What a table says of a field: its effect on a backend, and the check for when it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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


def hidden_models(value: Any, _: Experiment, __: Machine) -> Iterator[Refusal]:
    """The check of models whose names the agent must not learn."""
    for i, model in enumerate(value):
        if model.hidden:
            yield Refusal(
                f"[{i}].hidden",
                "no such key in this version: a model's files are where its name says",
                "",
                "Serve it from a ScopedSandbox, of which the agent sees functions alone: "
                "docs/seer.md.",
            )


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
