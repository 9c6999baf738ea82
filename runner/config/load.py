"""The TOML edge: a file → an Experiment, or one error that says all that is wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config.experiment import Experiment
from runner.config.explain import config_error
from runner.errors import ConfigError, UsageError

COMMAND_LINE = "command line"

_LARGEST = 1024**2


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a TOML file, its paths resolved and their files found.

    `overrides` are dotted keys that the command line sets, such as
    `{"agent.max_turns": 5}`; None takes a key away. Raises UsageError where there is no
    such file and ConfigError for what is in it.
    """
    data = read_toml(path, "experiment file")
    for key, value in (overrides or {}).items():
        _set(data, key, value)
    labels = dict.fromkeys(overrides or {}, COMMAND_LINE)
    return parse(data, folder=path.parent, file=str(path), labels=labels)


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


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file; `what` it is goes into the message when it is not one."""
    try:
        if path.is_dir():
            files = ", ".join(sorted(p.name for p in path.glob("*.toml"))[:5])
            hint = f"Name a file in it: {files}." if files else "It has no .toml file in it."
            raise UsageError(f"{path} is a directory, not an {what}.", hint=hint)
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not an ordinary file, so it is no {what}.")
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise UsageError(f"There is no {what} at {path}.", hint=_nearby(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The {what} {path} cannot be read: {reason}.") from error
    if len(raw) > _LARGEST:
        raise UsageError(f"{path} is larger than 1 MiB, so it is no {what}.")
    if b"\0" in raw:
        raise UsageError(f"{path} is a binary file, not TOML text.")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            file=str(path), key=f"line {line}", expected="text in UTF-8", found="other bytes"
        ) from error
    except tomllib.TOMLDecodeError as error:
        match = re.fullmatch(r"(?P<what>.*) \((?:at )?(?P<where>.*)\)", str(error), re.DOTALL)
        where, reason = (match["where"], match["what"]) if match else ("syntax", str(error))
        raise ConfigError(file=str(path), key=where, expected="TOML", found=reason) from error


def _nearby(path: Path) -> str:
    files = sorted(p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
    return f"In {path.parent} there is {', '.join(files[:5])}." if files else ""


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
