"""A sweep: keys of an experiment with several values each, and the runs that come of them. Pure."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from runner.errors import ConfigError, UsageError

MOST = 1000
"""Runs of one sweep."""
TABLE, OPTION = "sweep", "--set"
SHOWN = 60
"""Characters of a value that are shown."""
NOTED = 200
"""Characters of a text that is noted beside the record, as on a Job."""
_ENV = "sandbox.env."

Keys = Mapping[str, Sequence[Any]]
"""The values of each dotted key, such as `{"agent.max_turns": [4, 8]}`."""


def given(options: Sequence[str]) -> Keys:
    """What the options `--set KEY=VALUE` say. Raises UsageError for one that is none."""
    keys: dict[str, list[Any]] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f"{OPTION} {text}: expected KEY=VALUE",
                hint=f"KEY is a dotted key of the experiment: {OPTION} agent.max_turns=8",
            )
        key = name.strip()
        keys.setdefault(key, []).append(_value(key, value))
    return _checked(keys, OPTION, "")


def table(data: Any, file: str) -> Keys:
    """What the table `[sweep]` of a file says. Raises ConfigError."""
    if not isinstance(data, dict):
        raise ConfigError(file=file, key=TABLE, expected="a table", found=type(data).__name__)
    keys: dict[str, list[Any]] = {}
    for key, values in _leaves(data, ""):
        if not isinstance(values, list) or not values:
            found = "an empty list" if isinstance(values, list) else shown(values)
            raise ConfigError(
                file=file,
                key=f"{TABLE}.{key}",
                expected="a list of values, one for each run",
                found=found,
                hint=f"{key} = [{shown(values)}]" if values not in ([], {}) else "",
            )
        keys[key] = values
    return _checked(keys, file, f"{TABLE}.")


def combinations(keys: Keys) -> list[dict[str, Any]]:
    """Every combination, the last key's values changing first. Raises UsageError above `MOST`."""
    count = math.prod(len(values) for values in keys.values())
    if count > MOST:
        counts = " × ".join(f"{len(values)} of {key}" for key, values in keys.items())
        raise UsageError(
            f"a sweep makes {MOST:,} runs at most, and this one would make {count:,}: {counts}",
            hint="leave out values, or submit it in parts",
        )
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]


def own(values: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """Of a combination, what differs from one run to another."""
    return {key: value for key, value in values.items() if len(keys[key]) > 1}


def shown(value: Any) -> str:
    """A value as it is shown: text as it is, the rest as JSON, none of it long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def noted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are noted where there is little room: long texts are cut."""
    return {
        key: f"{value[:NOTED]}…" if isinstance(value, str) and len(value) > NOTED else value
        for key, value in values.items()
    }


def words(values: Mapping[str, Any]) -> str:
    """Values in words: `agent.max_turns=4 sandbox.gpu=A100`."""
    return " ".join(f"{key}={shown(value)}" for key, value in values.items())


def _value(key: str, text: str) -> Any:
    """TOML where it is TOML, else the text itself; variables are text in any case."""
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = read["value"]
    # A date is text to an experiment, and a second line would be another key.
    if len(read) > 1 or isinstance(value, date | time):
        return text
    if key.startswith(_ENV) and not isinstance(value, str):
        return text.strip()
    return value


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _checked(keys: dict[str, list[Any]], file: str, prefix: str) -> Keys:
    """Refuse a value that is there twice, a key inside another one, and several names."""
    for key, values in keys.items():
        texts = [json.dumps(value, sort_keys=True, default=str) for value in values]
        if twice := [v for v, text in zip(values, texts, strict=True) if texts.count(text) > 1]:
            raise ConfigError(
                file=file,
                key=f"{prefix}{key}",
                expected="each value once",
                found=f"{shown(twice[0])} twice",
                hint="runs that differ in nothing else can differ in a variable: sandbox.env.SEED",
            )
        if within := next((outer for outer in keys if key.startswith(f"{outer}.")), None):
            raise ConfigError(
                file=file,
                key=f"{prefix}{key}",
                expected=f"it or {within}, not both",
                found="both",
            )
    if len(keys.get("name", ())) > 1:
        raise ConfigError(
            file=file,
            key=f"{prefix}name",
            expected="one name, which all runs of a sweep have",
            found=f"{len(keys['name'])}",
        )
    return keys
