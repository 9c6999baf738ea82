"""Talk: a person's side of a chat with an agent that works."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator

from runner.errors import OperationError
from runner.session.channel import Channel
from runner.session.client import Session

CHAT = "chat"
"""The channel of a sandbox on which its agent listens."""
ENDED = "the agent has ended"
"""Why it is closed then."""


class Talk:
    """Says things to the agent of a sandbox, wherever it runs.

    Every call raises as those of the session do, and OperationError where no agent listens.
    """

    def __init__(self, session: Session, by: str) -> None:
        self._channel, self._by = Channel(session, CHAT), by

    def attend(self, left: threading.Event, heard: Callable[[], None]) -> None:
        """Be there until `left` is set: the agent waits for words before it ends the run.

        `heard` is called when the agent knows. Returns before that when it has ended.
        """
        try:
            for number, (_, ended) in enumerate(self._ask(uuid.uuid4().hex, kind="join")):
                if number == 0:
                    heard()
                if left.is_set() or ended:
                    return
        except OperationError as error:
            if ENDED not in error.message:
                raise

    def say(self, words: str, call: str) -> None:
        """Tell it something; returns when that is in the transcript.

        Words of the same `call`, said again, are told once.
        """
        self._finish(call, kind="say", text=words)

    def stop(self) -> None:
        """Stop its reply and its cell; returns when it has been told."""
        self._finish(uuid.uuid4().hex, kind="stop")

    def _finish(self, call: str, **body: str) -> None:
        said = b"".join(data for data, _ in self._ask(call, **body))
        if said:
            raise OperationError(said.decode("utf-8", "replace"))

    def _ask(self, call: str, **body: str) -> Iterator[tuple[bytes, bool]]:
        return self._channel.call(call, json.dumps(body | {"by": self._by}).encode())
