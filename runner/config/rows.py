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


def preloading(value: Any, _: Experiment, __: Machine) -> Iterator[Refusal]:
    """The check of models that are to be more than fetched."""
    for i, model in enumerate(value):
        for key in ("var_name", "hidden", "is_peft", "base_model", "load_as_peft"):
            if getattr(model, key):
                yield Refusal(
                    f"[{i}].{key}",
                    "no such key in this version: a model is fetched, and not loaded",
                    "",
                    "Load it in a cell; an adapter's base is a model of its own in the list.",
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
