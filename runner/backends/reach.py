"""The ways to a run's record where its containers write it: what a mirror is handed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from runner.errors import InfrastructureError

if TYPE_CHECKING:
    from runner.store.store import Store

COMMAND = ("/opt/runner/bin/python", "-P", "-m", "runner.pod")
"""How a command of ours is run in a container."""


class ExecError(InfrastructureError):
    """The command failed: with exit status `code`, or None where it did not even start."""

    def __init__(self, message: str, *, code: int | None, stderr: str) -> None:
        """Keep what the command said."""
        super().__init__(message)
        self.code, self.stderr = code, stderr


class Output(Protocol):
    """A command that runs in a container, as an iterator over its stdout."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """End it from any thread; whoever iterates sees the end."""
        ...


@dataclass(frozen=True)
class Agent:
    """A container with a run's agent: `uid` tells it from every other one, `place` is for `run`."""

    uid: str
    place: str
    running: bool
    """False for one that may run any moment."""


class Reach(Protocol):
    """How a client gets to one run's record. All calls raise RunnerError for what is in the way."""

    store_name: str
    """What messages call the place of records."""

    def agent(self, *, coming: bool = False) -> Agent | None:
        """The agent that runs now; with `coming` also one that may run any moment."""
        ...

    def in_agent(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Output:
        """Start a command of `runner.pod` in an agent's container; ExecError where it fails."""
        ...

    def opened(self) -> AbstractContextManager[str]:
        """A container that has the record, for as long as the context lasts."""
        ...

    def in_store(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Output:
        """Start a command of `runner.pod` in such a container."""
        ...

    def store(self) -> Store | None:
        """The object store that has the record; None where it is on a volume."""
        ...
