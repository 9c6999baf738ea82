"""Mirror: the record on this machine, kept like the one that the run writes elsewhere.

That one is reached where it is nearest: through the agent's container while it runs,
else S3 directly, else a container that is made for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.follower import Follower
from runner.backends.reach import Agent, ExecError, Output, Reach
from runner.errors import InfrastructureError, RunnerError, RunNotFound
from runner.record.closing import close as close_record
from runner.record.copy import RecordCopy
from runner.record.receiver import Receiver
from runner.record.travel import TRANSCRIPT, write_tar

if TYPE_CHECKING:
    from runner.store.store import Store

NO_RECORD = 4
"""Exit status of `runner.pod send` where there is no record."""
REASON_LENGTH = 2000
"""Characters: it is an argument of `exec`, which is a part of a URL."""
_CHUNK = 1 << 18


class Mirror:
    """One run's record here, in the directory `local`, which is made where it is missing."""

    def __init__(self, reach: Reach, run_id: str, local: Path) -> None:
        """Nothing is reached yet."""
        self._reach, self._run_id, self._local = reach, run_id, local
        self._opened: str | None = None

    def sync(self, *, withheld: bool = False) -> None:
        """Bring what is here up to date; outputs that were set aside only where they are asked for.

        Raises RunNotFound where the store has no record of this run, and
        RunnerError where it cannot be reached.
        """
        agent = self.agent()
        if agent is not None:
            try:
                self._receive(
                    lambda have: self._reach.in_agent(agent.place, "send", stdin=have), withheld
                )
                return
            except RunNotFound:
                raise
            except RunnerError:
                pass  # it has just ended, perhaps: the store has the record as well
        if store := self._store():
            if not store.download(self._local, withheld=withheld):
                raise self._not_found()
            return
        with self.reached() as place:
            self._receive_from(place, withheld=withheld)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Keep what is here up to date while the context lasts, whatever connections do."""
        follower = Follower(self)
        follower.start()
        try:
            yield
        finally:
            follower.stop()

    def look(self) -> None:
        """Take over what is new in S3, where there is no agent to follow; else nothing."""
        if store := self._store():
            store.download(self._local, quick=True)

    def agent(self, *, coming: bool = False) -> Agent | None:
        """The agent that runs now; with `coming` also one that may run any moment."""
        return self._reach.agent(coming=coming)

    def stream(self, agent: Agent, receiver: Receiver, said: Iterable[bytes]) -> Output:
        """Lines as the agent's container has them, for `receiver`; `said` keeps it going."""
        stdin = itertools.chain([_line(receiver.have())], said)
        return self._reach.in_agent(agent.place, "send", "--follow", stdin=stdin)

    def receiver(self) -> Receiver:
        """Writes a stream into the record here."""
        return Receiver(RecordCopy(self._local))

    def upload(self) -> None:
        """Put the record that is here into the store, which may have an older state of it.

        Outputs that were set aside stay here. Raises RecordError where it has another.
        """
        if store := self._store():
            store.upload(self._local, withheld=False)
            return
        with self.reached() as place, tempfile.TemporaryFile() as archive:
            write_tar(self._local, archive)
            archive.seek(0)
            chunks = iter(lambda: archive.read(_CHUNK), b"")
            self._told(place, "receive", stdin=chunks)

    def close(self, state: str, reason: str, exit_status: int | None) -> None:
        """Write the end of a run that has not written it, in the store and here.

        One that never was in the store is put there. Does nothing where there
        is an end already.
        """
        with contextlib.nullcontext() if self._store() else self.reached():
            try:
                self.sync()
            except RunNotFound:
                if not (self._local / TRANSCRIPT).is_file():
                    raise
                self._bring()
            if store := self._store():
                close_record(self._local, state, reason, exit_status)
                store.upload(self._local)
                return
            status = "none" if exit_status is None else str(exit_status)
            with self.reached() as place:
                self._told(place, "close", state, status, reason[:REASON_LENGTH])
                self._receive_from(place)

    def _bring(self) -> None:
        try:
            self.upload()
        except RunnerError as error:
            # A client that ends the run at the same time may have brought it, and written its end.
            try:
                self.sync()
            except RunNotFound:
                raise error from None

    def delete(self) -> None:
        """Remove the record from the store; what is here stays."""
        if store := self._store():
            store.delete()
            return
        with self.reached() as place:
            self._told(place, "remove")

    @contextlib.contextmanager
    def reached(self) -> Iterator[str]:
        """A container that has the record, while the context lasts; inner contexts share it."""
        if self._opened is not None:
            yield self._opened
            return
        with self._reach.opened() as place:
            self._opened = place
            try:
                yield place
            finally:
                self._opened = None

    # -- ways to the store -----------------------------------------------------------------

    def _store(self) -> Store | None:
        return self._reach.store()

    def _receive_from(self, place: str, *, withheld: bool = False) -> None:
        self._receive(lambda have: self._reach.in_store(place, "send", stdin=have), withheld)

    def _receive(self, send: Callable[[Iterable[bytes]], Output], withheld: bool) -> None:
        receiver = Receiver(RecordCopy(self._local))
        asked = receiver.have() | {"withheld": withheld}
        with self._not_found_told(), send([_line(asked)]) as sent:
            receiver.take(sent)
        if not receiver.complete:
            raise InfrastructureError(
                f"the record of {self._run_id} did not come whole: the connection was cut",
                hint="what came is kept; the same command goes on from there",
            )

    @contextlib.contextmanager
    def _not_found_told(self) -> Iterator[None]:
        try:
            yield
        except ExecError as error:
            if error.code == NO_RECORD:
                raise self._not_found() from error
            raise

    def _told(self, place: str, *words: str, stdin: Iterable[bytes] | None = None) -> None:
        """Run a command to its end."""
        with self._reach.in_store(place, *words, stdin=stdin) as ran:
            for _ in ran:
                pass

    def _not_found(self) -> RunNotFound:
        return RunNotFound(
            f"{self._reach.store_name} has no run {self._run_id!r}",
            hint="`runner list` shows the runs; was it made elsewhere?",
        )


def _line(have: dict[str, Any]) -> bytes:
    return json.dumps(have).encode() + b"\n"
