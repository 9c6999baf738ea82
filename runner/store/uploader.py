"""Uploader: copies a record up while it grows, and completely at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import InfrastructureError, RecordError, RunnerError
from runner.store.store import Store

EVERY_S = 1.0
LONGEST_PAUSE_S = 15.0
FLUSH_S = 300.0
"""How long the end is tried; a pod that was told to leave is killed before that."""


class Uploader:
    """A thread of its own. What it cannot copy now it tries again, out of the record here."""

    def __init__(
        self,
        store: Store,
        path: Path,
        *,
        superseded: Callable[[], object] = lambda: None,
        say: Callable[[str], None] | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        """Copy the record at `path`; troubles are told to `say`, each once (default: stderr).

        `superseded` is called where somebody else has begun to write the record in the store.
        """
        self._superseded = superseded
        self._store, self._path, self._every_s = store, path, every_s
        self._say = say or _to_stderr
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="uploader", daemon=True)
        self._told = ""
        self._pause_s = every_s

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, deadline_s: float = FLUSH_S) -> None:
        """Copy all that is left.

        Raises RecordError where somebody else writes the record in the store,
        and InfrastructureError where it was not complete after `deadline_s` seconds.
        """
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        end, self._pause_s = time.monotonic() + deadline_s, self._every_s
        while (trouble := self._try(complete=True)) is not None:
            if isinstance(trouble, RecordError):
                raise trouble
            left = end - time.monotonic()
            if left <= 0:
                raise InfrastructureError(
                    f"the record is not complete in the store after {deadline_s:g} s: "
                    f"{trouble.message}",
                    hint=trouble.hint,
                ) from trouble
            time.sleep(min(self._pause_s, left))

    def _repeat(self) -> None:
        while not self._ending.wait(self._pause_s):
            if isinstance(self._try(complete=False), RecordError):
                self._superseded()
                return

    def _try(self, *, complete: bool) -> RunnerError | None:
        try:
            self._store.upload(self._path, complete=complete)
        except RunnerError as error:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._tell(f"the record is not copied to its store: {error}")
            return error
        if self._told:
            self._tell("the record is copied to its store again")
            self._told = ""
        self._pause_s = self._every_s
        return None

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._told = words
            self._say(words)


@contextmanager
def uploading(
    store: Store, path: Path, superseded: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Copy a record up while the context lasts; at its end the store has all of it."""
    uploader = Uploader(store, path, superseded=superseded)
    uploader.start()
    try:
        yield
    finally:
        uploader.finish()


def _to_stderr(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - the container's log
