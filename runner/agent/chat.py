"""What people say to an agent while it works, and that they stop what it is at.

They say it over a channel of the sandbox, which every client reaches wherever the agent runs.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import RunnerError
from runner.session import CHAT, ENDED, Asked, Channel, Session

LOOK_S = 1.0
"""How often it is looked whether those who joined are still there."""
AGAIN_S = 0.5
"""How soon a sandbox is asked again that did not answer."""


@dataclass(frozen=True)
class Said:
    """Words for the agent; `heard` is called when they are in the transcript."""

    id: str
    by: str
    text: str
    heard: Callable[[], None] = lambda: None


class Chat:
    """Filled by whoever listens to people, heeded by the loop."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._said: deque[Said] = deque()
        self._there: set[str] = set()
        self._stopped = False

    def join(self, who: str) -> None:
        """Somebody is there: the agent's last word is answered."""
        with self._news:
            self._there.add(who)
            self._news.notify_all()

    def leave(self, who: str) -> None:
        """They are not any more."""
        with self._news:
            self._there.discard(who)
            self._news.notify_all()

    def say(self, said: Said) -> None:
        """Have the agent hear this before its next turn."""
        with self._news:
            self._said.append(said)
            self._news.notify_all()

    def stop(self) -> None:
        """Stop what the agent is at: its reply, the rest of its calls."""
        self._stopped = True

    @property
    def attended(self) -> bool:
        """Whether somebody is there."""
        return bool(self._there)

    @property
    def stopped(self) -> bool:
        """Whether what the agent is at is to be stopped."""
        return self._stopped

    @property
    def spoken(self) -> bool:
        """Whether there are words to be taken."""
        return bool(self._said)

    def go_on(self) -> None:
        """What was to be stopped has been."""
        self._stopped = False

    def take(self) -> list[Said]:
        """What was said since it was taken last."""
        with self._news:
            said = list(self._said)
            self._said.clear()
        return said

    def wait(self, wait_s: float) -> bool:
        """Wait for words, or until nobody is there; whether one of them is the case."""
        with self._news:
            return self._news.wait_for(lambda: bool(self._said) or not self._there, wait_s)


class ChatLine:
    """Listens on the channel of a sandbox, which goes on after this agent where it `stays`."""

    def __init__(self, session: Session, chat: Chat, *, stays: bool = False) -> None:
        self._session, self._chat, self._stays = session, chat, stays
        self._channel = Channel(session, CHAT)
        self._over = threading.Event()
        self._attending: list[threading.Thread] = []

    def __enter__(self) -> ChatLine:
        self._spawn(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._attending:
            thread.join(AGAIN_S)
        if self._stays:
            with contextlib.suppress(RunnerError, RuntimeError):
                self._channel.close(ENDED)

    def _listen(self) -> None:
        while not self._over.is_set():
            # Another sandbox has no such channel, and one that is away none at all.
            with contextlib.suppress(RunnerError, RuntimeError):
                self._channel.open()
                number = 0
                while not self._over.is_set():
                    if asked := self._channel.next(number):
                        number = asked.number
                        self._hear(asked)
            self._over.wait(AGAIN_S)

    def _hear(self, asked: Asked) -> None:
        try:
            body: Mapping[str, Any] = json.loads(asked.body)
            kind, by = str(body["kind"]), str(body.get("by") or "somebody")
            said = str(body["text"]) if kind == "say" else ""
        except (ValueError, KeyError, TypeError, AttributeError):
            kind, by, said = "", "", ""
        match kind:
            case "join":
                self._chat.join(asked.id)
                self._attending.append(self._spawn(lambda: self._attend(asked.id)))
            case "say":
                heard = lambda: self._answer(asked.id)  # noqa: E731
                self._chat.say(Said(asked.id, by, said, heard))
            case "stop":
                self._chat.stop()
                self._spawn(self._interrupt)
                self._answer(asked.id)
            case _:
                self._answer(asked.id, "this agent knows join, say and stop")

    def _attend(self, call: str) -> None:
        """Hold their call open for as long as they take its answer, which has nothing in it."""
        part, ended = 1, False
        with contextlib.suppress(RunnerError, RuntimeError):
            self._channel.answer(call, part, b"", end=ended)
            while not ended:
                ended, part = self._over.wait(LOOK_S), part + 1
                self._channel.answer(call, part, b"", end=ended)
        self._chat.leave(call)

    def _interrupt(self) -> None:
        """Stop all that runs in the sandbox, so that the agent's call has its answer."""
        with contextlib.suppress(RunnerError, RuntimeError):
            for op in self._session.info()["running"]:
                self._session.interrupt(op, timeout_s=0.0)

    def _answer(self, call: str, refused: str = "") -> None:
        with contextlib.suppress(RunnerError, RuntimeError):
            self._channel.answer(call, 1, refused.encode(), end=True)

    def _spawn(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name="chat", daemon=True)
        thread.start()
        return thread
