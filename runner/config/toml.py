"""TOML text → tables, or one error that says why it is none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, UsageError

_LARGEST = 1024**2


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
