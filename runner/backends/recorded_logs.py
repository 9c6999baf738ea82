"""What the containers of a run printed, as its record has kept it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from runner.backends.base import LogLine

_FILES = {"install.log": "prepare", "sandbox.log": "sandbox", "agent.log": "agent"}


def read(folder: Path) -> Iterator[LogLine]:
    """The lines in the record's directory of logs."""
    for name, source in _FILES.items():
        file = folder / name
        if file.is_file():
            for line in file.read_text("utf-8", "replace").splitlines():
                yield LogLine(source, line)


def write(folder: Path, lines: Iterable[LogLine], mask: Callable[[str], str]) -> None:
    """Put the lines there that no process has written there itself."""
    sources = {source: name for name, source in _FILES.items() if not (folder / name).exists()}
    kept: dict[str, list[str]] = {}
    for line in lines:
        if name := sources.get(line.source):
            kept.setdefault(name, []).append(mask(line.text))
    for name, texts in kept.items():
        (folder / name).write_text("\n".join([*texts, ""]))
