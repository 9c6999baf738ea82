"""Values of secrets, from the user's environment or a `.env` file, before anything starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from runner.errors import UsageError


class SecretValues(dict[str, str]):
    """Values by name. Its repr shows the names only."""

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self)})"


ENVIRONMENT = "environment"

_SECRET = re.compile(r"[A-Z0-9_]*(KEY|TOKEN|SECRET|PASSWORD)")
"""Variables of the environment that are taken for secrets when nobody names them."""


def look_up(
    names: Iterable[str], folders: Iterable[Path], environ: Mapping[str, str] = os.environ
) -> SecretValues:
    """The values of these secrets: from the environment, else from the first `.env` that has them.

    Raises UsageError, which names every missing one.
    """
    wanted = list(dict.fromkeys(names))
    files = list(dict.fromkeys(folder / ".env" for folder in folders))
    values = SecretValues()
    for _, source in _sources(wanted, files, environ):
        for name in wanted:
            if name not in values and (value := source.get(name)):
                values[name] = value
    if missing := [name for name in wanted if name not in values]:
        places = " or ".join(map(str, files))
        raise UsageError(
            f"missing secrets: {', '.join(missing)}",
            hint=f"export them, or write NAME=value lines into {places}",
        )
    return values


def places(
    names: Iterable[str], folders: Iterable[Path], environ: Mapping[str, str] = os.environ
) -> dict[str, str | None]:
    """Where the value of each of these secrets would be taken from; None for a missing one."""
    wanted = list(dict.fromkeys(names))
    files = list(dict.fromkeys(folder / ".env" for folder in folders))
    found: dict[str, str | None] = dict.fromkeys(wanted)
    for place, source in _sources(wanted, files, environ):
        for name in wanted:
            if found[name] is None and source.get(name):
                found[name] = place
    return found


def known(folders: Iterable[Path], environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of what is in `.env` files, and of variables that look like secrets, in order."""
    names = {name for name, value in environ.items() if value and _SECRET.fullmatch(name)}
    for folder in folders:
        names |= {name for name, value in _read(folder / ".env").items() if value}
    return tuple(sorted(names))


def _sources(
    wanted: Iterable[str], files: Iterable[Path], environ: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """The places to look in, in order; a file is read only where it is needed."""
    yield ENVIRONMENT, environ
    if not all(environ.get(name) for name in wanted):
        for file in files:
            yield str(file), _read(file)


def _read(file: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(file, interpolate=False) if file.is_file() else {}
