"""What happens before a sandbox's kernel is ready, written down as it happens.

One JSON line per event, so that whoever waits can say what for, and for how long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.plain import open_plain


@dataclass(frozen=True)
class Phase:
    """One phase; `failure` says in words why it did not end well."""

    name: str
    started: str
    ended: str | None = None
    detail: str = ""
    failure: str = ""


class PhaseLog:
    """The events of one sandbox's start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def phase(self, name: str, detail: str = "") -> Iterator[None]:
        """Note the begin and the end of a phase, or why it failed."""
        self._add(name, "started", detail)
        try:
            yield
        except RunnerError as error:
            self._add(name, "failed", str(error))
            raise
        except OSError as error:
            self._add(name, "failed", f"{type(error).__name__}: {error}")
            raise
        self._add(name, "ended", detail)

    def fail(self, name: str, words: str) -> None:
        """Note that a phase could not even begin."""
        self._add(name, "started", "")
        self._add(name, "failed", words)

    def _add(self, name: str, event: str, detail: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"phase": name, "event": event, "time": now, "detail": detail}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_phases(path: Path) -> list[Phase]:
    """The phases so far; none while there is no file."""
    try:
        with open_plain(path) as file:
            text = file.read().decode()
    except FileNotFoundError:
        return []
    return parse_phases(text)


def parse_phases(text: str) -> list[Phase]:
    """The phases of a log's whole lines."""
    return fold_phases(json.loads(line) for line in text.splitlines(True) if line.endswith("\n"))


def fold_phases(events: Iterable[Mapping[str, Any]]) -> list[Phase]:
    """The phases that these events amount to, in their order."""
    phases: list[Phase] = []
    for event in events:
        if event["event"] == "started":
            phases.append(Phase(event["phase"], event["time"], detail=event["detail"]))
            continue
        began = phases.pop()
        failure = event["detail"] if event["event"] == "failed" else ""
        phases.append(Phase(began.name, began.started, event["time"], began.detail, failure))
    return phases


def failed(phases: Iterable[Phase]) -> Phase | None:
    """The phase that failed, if one did: none comes after it."""
    return next((phase for phase in phases if phase.failure), None)


def as_record(phases: Iterable[Phase]) -> list[dict[str, Any]]:
    """The phases as the record holds them."""
    return [asdict(phase) for phase in phases]
