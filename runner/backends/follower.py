"""Follower: a thread that keeps a mirror up to date while a run goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.errors import RunnerError, RunNotFound

if TYPE_CHECKING:
    from runner.backends.mirror import Mirror
    from runner.backends.reach import Agent, Output

LOOK_S, LONGEST_PAUSE_S = 0.25, 5.0
"""How often it is looked for an agent that runs, and for news in S3; less often after failures."""
PING_S = 10.0
"""How often the sender hears of us; it gives us up after a minute."""
STOP_S = 5.0


class Follower:
    """Streams from the agent's container while it runs; fetches the rest when a stream was cut."""

    def __init__(self, mirror: Mirror) -> None:
        """Nothing is followed yet."""
        self._mirror = mirror
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="mirror", daemon=True)
        self._guard = threading.Lock()
        self._stream: Output | None = None
        self._whole: set[str] = set()  # agents whose stream came to its end
        self._owed = False  # a stream was cut

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it was at is dropped."""
        self._stopped.set()
        with self._guard:
            stream = self._stream
        if stream is not None:
            with contextlib.suppress(RunnerError):
                stream.close()
        self._thread.join(STOP_S)

    def _repeat(self) -> None:
        pause_s = LOOK_S
        while not self._stopped.is_set():
            try:
                self._step()
                pause_s = LOOK_S
            except RunNotFound:  # nobody has begun to write
                pause_s = LOOK_S
            except (RunnerError, OSError):  # `sync` will say what is wrong
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._stopped.wait(pause_s)

    def _step(self) -> None:
        agent = self._mirror.agent(coming=True)
        if agent is not None and not agent.running:
            with contextlib.suppress(RunnerError):  # it has not begun, as far as is known
                self._owed = True
                self._owed = not self._streamed(agent)
        elif agent is not None and agent.uid not in self._whole:
            self._owed = True
            if self._streamed(agent):
                self._whole.add(agent.uid)
                self._owed = False
        elif self._owed:
            self._mirror.sync()
            self._owed = False
        else:
            self._mirror.look()

    def _streamed(self, agent: Agent) -> bool:
        """Follow one agent; whether all of it came that there will be."""
        receiver = self._mirror.receiver()
        with self._mirror.stream(agent, receiver, self._pings()) as stream:
            with self._guard:
                self._stream = stream
            try:
                if not self._stopped.is_set():
                    receiver.take(stream)
            finally:
                with self._guard:
                    self._stream = None
        return receiver.complete

    def _pings(self) -> Iterator[bytes]:
        """Said again and again, so that the sender knows that we are there."""
        while not self._stopped.wait(PING_S):
            with self._guard:
                if self._stream is None:
                    return
            yield b"\n"
