"""What a command is handed: the common options, and what follows from them."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.backends.base import Backend, Handle, Status
    from runner.settings import Settings


@dataclass
class Cli:
    """One call of the command line. Data goes to stdout; notes, which nobody parses, to stderr."""

    json: bool = False
    runs: str | None = None
    backend: str | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, the command line's own first."""
        from runner.settings import load_settings

        given: dict[str, Any] = {}
        if self.runs is not None:
            given["runs"] = self.runs
        if self.backend is not None:
            given["backend"] = self.backend
        return load_settings(**given)

    @cached_property
    def engine(self) -> Backend:
        """The backend."""
        from runner.backends import backend_of

        return backend_of(self.settings)

    @property
    def records(self) -> Path:
        """The directory of all records on this machine."""
        return Path(self.settings.runs)

    def attach(self, run: str | None) -> tuple[Path, Handle]:
        """The record of a run, the last one for None, and a handle of the backend that has it."""
        if run is None or (self.records / run).is_dir():
            path = self._here(run)
            self._turn_to(path)
            return path, self.engine.attach(path.name)
        if self.settings.backend == "local":
            return self._here(run), self.engine.attach(run)  # refused with the nearest name
        handle = self.engine.attach(run)
        return self.records / run, handle

    def look(
        self, run: str | None, *, needed: bool = True, patience_s: float | None = None
    ) -> tuple[Path, Handle]:
        """As `attach`, with the record as it is now; the last copy where its home is away.

        With `needed=False` without a record, where there is none to be had.
        """
        from runner.errors import RunnerError

        path, handle = self.attach(run)
        try:
            self.engine.sync(handle, patience_s=patience_s)
        except RunnerError as error:
            if path.is_dir():
                words = "this is the copy on this machine, as it was last"
            elif needed:
                raise
            else:
                words = "this is without its record"
            self.note(f"note: {words}: {error.message}")
        return path, handle

    def find(self, run: str | None) -> Path:
        """The record of a run, the last one for None, as it is now."""
        return self.look(run)[0]

    def sweep(self, word: str | None) -> list[Status]:
        """The runs of a sweep of this id, in their order; none where it is not a sweep's."""
        from runner.backends.base import Selector
        from runner.names import is_run_id

        if word is None or not is_run_id(word) or (self.records / word).is_dir():
            return []
        if mine := next(self.records.glob(f"{word}-*/transcript.jsonl"), None):
            self._turn_to(mine.parent)
        return self.engine.list(Selector(sweep=word))[::-1]

    def _here(self, run: str | None) -> Path:
        from runner.record import find

        return find(self.records, run)

    def _turn_to(self, path: Path) -> None:
        """Use the backend that the run was started on, unless another one is asked for."""
        from runner.record import Record

        name = Record.open(path).glance().backend
        if self.backend is None and name and name != self.settings.backend:
            self.backend = name
            for key in ("settings", "engine"):
                self.__dict__.pop(key, None)

    def command(self, name: str, *arguments: str) -> str:
        """Another command, as the user would type it here."""
        given = ["--runs", self.runs] if self.runs is not None else []
        # What follows the run in `exec` is the user's command.
        words = [*given, *arguments] if name == "exec" else [*arguments, *given]
        return shlex.join(["runner", name, *words])

    def say(self, text: str = "") -> None:
        """Print a line of data."""
        print(text, flush=True)  # noqa: T201

    def pair(self, label: str, text: str, wide: int = 8) -> None:
        """Print a labelled line; on a terminal it is broken at the edge, below the text."""
        lines = [text]
        if sys.stdout.isatty():
            room = max(shutil.get_terminal_size().columns - wide - 2, 20)
            lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            self.say(f"  {'' if number else label:{wide}}{line}")

    def emit(self, **data: Any) -> None:
        """Print one JSON object on a line."""
        self.say(json.dumps(data, separators=(",", ":"), default=str))

    def note(self, text: str) -> None:
        """Say something beside the data; not with --json."""
        if not self.json:
            print(text, file=sys.stderr, flush=True)  # noqa: T201
