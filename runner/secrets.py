"""Values of secrets, from the user's environment or a `.env` file, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.errors import UsageError


class SecretValues(dict[str, str]):
    """Values by name. Its repr shows the names only."""

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self)})"


def look_up(
    names: Iterable[str], folders: Iterable[Path], environ: Mapping[str, str] = os.environ
) -> SecretValues:
    """The values of these secrets: from the environment, else from the first `.env` that has them.

    Raises UsageError, which names every missing one.
    """
    wanted = list(dict.fromkeys(names))
    values = SecretValues({name: environ[name] for name in wanted if environ.get(name)})
    files = list(dict.fromkeys(folder / ".env" for folder in folders))
    if any(name not in values for name in wanted):
        from dotenv import dotenv_values

        for file in files:
            found = dotenv_values(file, interpolate=False) if file.is_file() else {}
            for name in wanted:
                if name not in values and (value := found.get(name)):
                    values[name] = value
    if missing := [name for name in wanted if name not in values]:
        places = " or ".join(map(str, files))
        raise UsageError(
            f"missing secrets: {', '.join(missing)}",
            hint=f"export them, or write NAME=value lines into {places}",
        )
    return values
