"""Journal and outputs, out of the sandbox and into the record as they come."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import Any

from runner.errors import OperationError, RecordError, RunnerError, SandboxUnreachable
from runner.prepare import OUTPUTS
from runner.record import Record
from runner.session import Session

JOURNAL_WAIT_S = 2.0
"""How long one request waits for new lines; they come at once."""
OUTPUTS_EVERY_S = 1.0
AGAIN_S = 0.5
"""How soon a sandbox is asked again that did not answer."""
CATCH_UP_S, LAST_LINES_S = 2.0, 30.0
"""How long lines are pulled after a tool's call, and at the end, from a sandbox that goes on
printing."""
MOST_FILES = 10_000
"""As many entries one listing of the sandbox server has at most."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class Puller:
    """Keeps the record as close behind the sandbox as it can, on two threads of its own.

    `on_failure` is called, once for each thread, with what keeps it from
    going on: the disk of the record. A sandbox that is away is asked again.
    """

    def __init__(
        self,
        session: Session,
        record: Record,
        on_failure: Callable[[RunnerError], None] = lambda _: None,
    ) -> None:
        self._session, self._record, self._on_failure = session, record, on_failure
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._lines, self._outputs = (
            threading.Thread(target=self._repeat, args=(step,), name=name, daemon=True)
            for name, step in (("journal", self._pull_lines), ("outputs", self._pull_settled))
        )
        self._seen: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, tuple[int, int]] = {}
        # Opened here, before there are threads.
        self._journal = record.journal
        self._sums = {item["path"]: item["sha256"] for item in record.state().outputs}
        self._refused: dict[str, str] = {}

    def start(self) -> None:
        """Begin to pull."""
        self._lines.start()
        self._outputs.start()

    def catch_up(self) -> None:
        """Pull the lines that the sandbox has now; nothing of it, where it does not answer now.

        Raises InfrastructureError when the disk refuses.
        """
        with contextlib.suppress(SandboxUnreachable, OperationError):
            self._pull_all_lines(CATCH_UP_S)

    def finish(self) -> list[str]:
        """Pull what is left, outputs that are still written to included.

        Returns in words what could not be kept. Raises RunnerError when the
        sandbox or the disk refuses.
        """
        with self._guard:
            self._ending.set()
        # The other one may wait for lines; whatever it gets, it keeps nothing any more.
        if self._outputs.ident is not None:
            self._outputs.join()
        self._pull_all_lines(LAST_LINES_S)
        self._pull_outputs(settled_only=False)
        self._record.render()
        return [f"{OUTPUTS}/{path}: {words}" for path, words in sorted(self._refused.items())]

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._ending.is_set():
            try:
                step()
            except (SandboxUnreachable, OperationError):
                self._ending.wait(AGAIN_S)
            except RunnerError as error:
                if not self._ending.is_set():
                    self._on_failure(error)
                return
            except RuntimeError:
                if self._ending.is_set():  # the session was closed after the end
                    return
                raise

    def _pull_all_lines(self, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        while self._pull_journal(0.0) and time.monotonic() < end:
            pass

    def _pull_lines(self) -> None:
        self._pull_journal(JOURNAL_WAIT_S, until=self._ending)

    def _pull_settled(self) -> None:
        self._pull_outputs(settled_only=True)
        self._ending.wait(OUTPUTS_EVERY_S)

    def _pull_journal(self, wait_s: float, until: threading.Event | None = None) -> bool:
        # The wait is outside of the lock; what comes back is taken only if it is still next.
        lines = self._session.journal(self._journal.lines, wait_s)
        with self._guard:
            if until is not None and until.is_set():
                return False
            have = self._journal.lines
            fresh = [line for line in lines if line["seq"] > have]
            self._record.add_journal(fresh)
        return bool(fresh)

    def _pull_outputs(self, *, settled_only: bool) -> None:
        """Pull files that are new or changed; while the run goes on, only those at rest."""
        pulled: list[dict[str, Any]] = []
        for entry in self._listing():
            path, stamp = entry["path"], (entry["mtime_ns"], entry["bytes"])
            settled = self._seen.get(path) == stamp
            self._seen[path] = stamp
            if entry["type"] == "link":
                self._refused[path] = "is a symlink, and links are not collected"
            if entry["type"] == "secret":
                self._refused[path] = "its name holds a secret; it is not collected"
            if entry["type"] != "file" or self._kept.get(path) == stamp:
                continue
            if settled_only and not settled:
                continue
            try:
                item = self._pull(path)
            except SandboxUnreachable as error:
                self._session.info()  # if that fails too, it is not for this file
                self._refused[path] = f"was cut off whenever it was read: {error.message}"
                continue
            self._kept[path] = stamp
            # A resumed agent pulls everything again: what is the same is not news.
            if item and self._sums.get(path) != item["sha256"]:
                self._sums[path] = item["sha256"]
                pulled.append(item)
        if pulled:
            self._record.say("outputs", files=pulled)

    def _listing(self) -> list[dict[str, Any]]:
        try:
            entries = self._session.tree(OUTPUTS, recursive=True)
        except OperationError as error:
            # The agent may have removed the directory, or put a link out of the workspace there.
            self._refused["."] = error.message
            return []
        self._refused.pop(".", None)
        if len(entries) >= MOST_FILES:
            self._refused["."] = f"holds more than {MOST_FILES} files; the others are not collected"
        return entries

    def _pull(self, path: str) -> dict[str, Any] | None:
        """Keep one file; one that is gone meanwhile, or that cannot be kept, is only noted."""
        try:
            item = self._session.fetch_whole(
                f"{OUTPUTS}/{path}",
                lambda pieces, secret: self._record.add_output(path, pieces, withheld=secret),
            )
        except (OperationError, RecordError) as error:
            self._refused[path] = error.message
        except RunnerError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno in _DISK:
                raise
            self._refused[path] = error.message  # a directory was kept under this name before
        else:
            self._refused.pop(path, None)
            return item
        return None
