"""Journal and outputs, out of the sandbox and into the record as they come."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from runner.errors import RunnerError
from runner.prepare import OUTPUTS
from runner.record import Record
from runner.session import Session

JOURNAL_WAIT_S = 1.0
"""How long one request waits for new lines; also how often outputs are looked at."""


class Puller:
    """Keeps the record as close behind the sandbox as it can, on a thread of its own."""

    def __init__(self, session: Session, record: Record) -> None:
        self._session, self._record = session, record
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="puller", daemon=True)
        self._seen: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, tuple[int, int]] = {}
        self.failure: RunnerError | None = None
        """Why nothing is pulled any more."""

    def start(self) -> None:
        """Begin to pull."""
        self._thread.start()

    def finish(self) -> None:
        """Pull what is left, outputs that are still written to included.

        Raises RunnerError when the sandbox or the disk refuses.
        """
        self._ending.set()
        self._thread.join(JOURNAL_WAIT_S + 30.0)
        while self._pull_journal(0.0):
            pass
        self._pull_outputs(settled_only=False)
        self._record.render()

    def catch_up(self) -> None:
        """Pull the lines that the sandbox has now."""
        while self._pull_journal(0.0):
            pass

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._pull_journal(JOURNAL_WAIT_S)
                self._pull_outputs(settled_only=True)
            except RunnerError as error:
                self.failure = error
                return

    def _pull_journal(self, wait_s: float) -> bool:
        # The wait is outside of the lock; what comes back is taken only if it is still next.
        lines = self._session.journal(self._record.journal.lines, wait_s)
        with self._guard:
            have = self._record.journal.lines
            fresh = [line for line in lines if line["seq"] > have]
            self._record.add_journal(fresh)
        return bool(fresh)

    def _pull_outputs(self, *, settled_only: bool) -> None:
        """Pull files that are new or changed; while the run goes on, only those at rest."""
        pulled: list[dict[str, Any]] = []
        entries = []
        with contextlib.suppress(RunnerError):  # the agent may have removed the directory
            entries = self._session.tree(OUTPUTS, recursive=True)
        for entry in entries:
            path, stamp = entry["path"], (entry["mtime_ns"], entry["bytes"])
            settled = self._seen.get(path) == stamp
            self._seen[path] = stamp
            if entry["type"] != "file" or self._kept.get(path) == stamp:
                continue
            if settled_only and not settled:
                continue
            with self._session.open_file(f"{OUTPUTS}/{path}") as pieces:
                pulled.append(self._record.add_output(path, pieces))
            self._kept[path] = stamp
        if pulled:
            self._record.say("outputs", files=pulled)
