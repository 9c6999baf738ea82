"""The TOML edge: a file → an Experiment, or one error that says all that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config import sweep
from runner.config.experiment import Experiment
from runner.config.explain import config_error
from runner.config.refuse import describe
from runner.config.toml import read_toml
from runner.errors import ConfigError, UsageError

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Variant:
    """One run's experiment, and the values that it has for itself among the runs of a sweep."""

    experiment: Experiment
    values: Mapping[str, Any]


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a TOML file, its paths resolved and their files found.

    `overrides` are dotted keys that the command line sets, such as
    `{"agent.max_turns": 5}`; None takes a key away. Raises UsageError where there is no
    such file, or where it is a sweep of several, and ConfigError for what is in it.
    """
    variants = load_all(path, overrides)
    if len(variants) > 1:
        raise UsageError(
            f"{path} is a sweep of {len(variants)} runs, and one is wanted",
            hint="`runner submit` starts all of them; without the table [sweep] it is one",
        )
    return variants[0].experiment


def load_all(
    path: Path, overrides: Mapping[str, Any] | None = None, sets: sweep.Keys | None = None
) -> list[Variant]:
    """The experiments that a file makes, one for each combination of values.

    Those are of its table `[sweep]`, in which `sets` and `overrides` take a key's place.
    Raises as `load` does; nothing comes of a file of which one combination is refused.
    """
    sets, overrides = sets or {}, overrides or {}
    data = read_toml(path, "experiment file")
    swept = sweep.table(data.pop(sweep.TABLE, {}), str(path))
    if both := [key for key in sets if key in overrides]:
        raise UsageError(f"{sweep.OPTION} {both[0]}: another option says it as well")
    keys = {key: values for key, values in swept.items() if key not in overrides} | dict(sets)
    labels = {
        **dict.fromkeys(swept, f"{path} [{sweep.TABLE}]"),
        **dict.fromkeys(sets, sweep.OPTION),
        **dict.fromkeys(overrides, COMMAND_LINE),
    }
    combinations = sweep.combinations(keys)
    variants = []
    for values in combinations:
        changed = copy.deepcopy(data)
        for key, value in values.items():
            _place(changed, key, value, labels[key])
        check_provider(changed.get("agent"), overrides)
        for key, value in overrides.items():
            _set(changed, key, value)
        try:
            experiment = parse(changed, folder=path.parent, file=str(path), labels=labels)
        except ConfigError as error:
            if len(combinations) > 1 and error.file == str(path):
                which = f"in the run with {sweep.words(sweep.own(values, keys))}"
                error.hint = f"{error.hint} {which}" if error.hint else which
            raise
        variants.append(Variant(experiment, sweep.own(values, keys)))
    return variants


def check_provider(agent: Any, overrides: Mapping[str, Any]) -> None:
    """Refuse a model for an agent that knows its own: a key of it is another provider's."""
    before = agent.get("provider") if isinstance(agent, dict) else None
    if before == "none" and overrides.get("agent.provider", "none") != "none":
        raise ConfigError(
            file=COMMAND_LINE,
            key="agent.provider",
            expected='no model for `provider = "none"`, whose models its command knows',
            found=f'"{overrides["agent.provider"]}"',
            hint="change the file: its llm_secret may be the key of another provider",
        )


def parse(
    data: Mapping[str, Any],
    *,
    folder: Path | None,
    file: str = "experiment",
    labels: Mapping[str, str] | None = None,
) -> Experiment:
    """An experiment out of a mapping; its files are looked up from `folder`, if one is given.

    Raises ConfigError, which names `file`, or what `labels` says for a dotted key.
    """
    try:
        context = {"folder": folder.absolute()} if folder else None
        return Experiment.model_validate(data, context=context)
    except ValidationError as error:
        raise config_error(error, Experiment, file, labels) from error


def _place(data: dict[str, Any], key: str, value: Any, label: str) -> None:
    """Set a key of a sweep, which has to be in a table."""
    inner: Any = data
    *tables, _ = names = key.split(".")
    for depth, name in enumerate(tables, 1):
        inner = inner.get(name, {})
        if not isinstance(inner, dict):
            table = ".".join(names[:depth])
            raise ConfigError(
                file=label,
                key=key,
                expected="a key of a table",
                found=f"{describe(inner)} at {table}",
                hint=f"set {table} as a whole",
            )
    _set(data, key, value)


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for name in tables:
        inner = data.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # validation will say that this is no table
        data = inner
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value
