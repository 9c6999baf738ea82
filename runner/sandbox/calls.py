"""Calls between processes that cannot reach each other but can reach this server.

A channel has callers and one who serves. A call is a body, its answer a stream of bytes in numbered
parts. Neither is looked into here. Whatever was not heard of is asked for, or sent, again by its
number, and is there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.sandbox.book import Changed

HOLD_AT_MOST = 32 << 20
"""Bytes of answers that wait for their callers; more have to wait with who serves."""
HOLD_AT_LEAST = 1 << 20
"""Bytes of each answer that may wait whatever others do."""
BODIES_AT_MOST = 128 << 20
"""Bytes of calls at a time; others have to wait with who calls."""
FORGOTTEN_S = 120.0
"""How long a caller may be silent before its call is taken for given up."""
MOST_CALLS = 256
"""Calls of a channel that wait or are answered at a time."""
SHOWN = 4096
"""Characters of a call, or of its answer, that the journal shows."""
GONE = "nobody waits for this call any more"


class ChannelClosed(Exception):
    """The channel is not there; the words say why."""


class CallGone(ChannelClosed):
    """Nobody waits for the answer of this call any more."""


@dataclass
class Call:
    """One call: `parts` are those from number `first` on that its caller has not taken."""

    id: str
    number: int
    body: bytes
    heard_at: float
    parts: deque[bytes] = field(default_factory=deque)
    first: int = 1
    ended: bool = False
    bytes: int = 0
    shown: str = ""

    @property
    def last(self) -> int:
        """Number of the last part so far."""
        return self.first + len(self.parts) - 1

    @property
    def waiting(self) -> int:
        """Bytes that wait for the caller."""
        return sum(map(len, self.parts))


class Channel:
    """Calls of those who hold `caller`, answered by who holds `server`."""

    def __init__(self, name: str, note: Callable[..., None]) -> None:
        self.name, self._note = name, note
        self.caller, self.server = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.calls: dict[str, Call] = {}
        self.closed = ""
        """Why it is closed; empty while it is open."""
        self.served_at = _now()
        """When whoever serves was last heard of."""
        self.changed = Changed()
        self._number = 0

    def admits(self, token: str | None, *, serving: bool) -> bool:
        """Whether this token lets its holder call, or serve."""
        own = self.server if serving else self.caller
        return token is not None and hmac.compare_digest(token.encode(), own.encode())

    async def ask(self, id: str, body: bytes, wait_s: float) -> bool:  # noqa: A002
        """Have a call answered; the same id again is the same call.

        False where there is no room yet, and it has to come again. Raises ChannelClosed.
        """
        await self._until(lambda: id in self.calls or self._takes(len(body)), wait_s)
        self._check()
        if id in self.calls:
            return True
        if not self._takes(len(body)):
            return False
        self._number += 1
        self.calls[id] = Call(id, self._number, body, _now())
        self._note("call", id=id, channel=self.name, event="begin", **_shown(body))
        self.changed.pulse()
        return True

    async def next(self, after: int, wait_s: float) -> Call | None:
        """The first call after this number, waiting for it."""
        self._check()
        self.served_at = _now()
        await self._until(lambda: self._after(after) is not None, wait_s)
        self.served_at = _now()
        self._check()
        return self._after(after)

    async def answer(self, id: str, number: int, data: bytes, *, end: bool, wait_s: float) -> bool:  # noqa: A002
        """Add a part to the answer; false where there is no room yet, and it has to come again.

        Raises CallGone where nobody waits for it, and ValueError for a part that is not the next.
        """
        self.served_at = _now()
        call = self._of(id)
        if 1 <= number <= call.last:
            return True
        if call.ended or number != call.last + 1:
            raise ValueError(f"part {number} after part {call.last}")
        await self._until(lambda: self._is_gone(call) or self._holds(call), wait_s)
        self.served_at = _now()
        if self._is_gone(call) or _now() - call.heard_at > FORGOTTEN_S:
            self.calls.pop(id, None)
            raise CallGone(GONE)
        if not self._holds(call):
            return False
        if number == call.last + 1:
            call.parts.append(data)
            call.bytes += len(data)
            call.shown += data[: SHOWN - len(call.shown)].decode("utf-8", "replace")
            call.ended = end
            if end:
                self._note(
                    "call",
                    id=id,
                    channel=self.name,
                    event="end",
                    bytes=call.bytes,
                    text=call.shown,
                )
            self.changed.pulse()
        return True

    async def take(self, id: str, after: int, wait_s: float) -> tuple[bytes, int, bool]:  # noqa: A002
        """Parts after number `after`, the last one's number, whether they are all there will be.

        Those up to `after` are let go of. Waits for the first. Raises CallGone.
        """
        call = self._of(id)
        call.heard_at = _now()
        while call.parts and call.first <= after:
            call.parts.popleft()
            call.first += 1
        self.changed.pulse()
        await self._until(lambda: bool(call.parts) or call.ended or self._is_gone(call), wait_s)
        call.heard_at = _now()
        self._of(id)
        return b"".join(call.parts), call.last, call.ended

    def give_up(self, id: str) -> None:  # noqa: A002
        """Its caller has all of it, or does not want the rest."""
        if (call := self.calls.pop(id, None)) and not call.ended:
            self._note("call", id=id, channel=self.name, event="given up")
        self.changed.pulse()

    def close(self, reason: str) -> None:
        """End it: who waits is told why at once."""
        self.closed = self.closed or reason
        self.calls.clear()
        self.changed.pulse()

    @property
    def unserved_s(self) -> float:
        """Seconds since whoever serves was last heard of."""
        return _now() - self.served_at

    def _of(self, id: str) -> Call:  # noqa: A002
        self._check()
        try:
            return self.calls[id]
        except KeyError:
            raise CallGone(GONE) from None

    def _takes(self, size: int) -> bool:
        """Whether there is room for a call of so many bytes."""
        self._forget()
        held = sum(len(call.body) for call in self.calls.values())
        return not held or (len(self.calls) < MOST_CALLS and held + size <= BODIES_AT_MOST)

    def _holds(self, call: Call) -> bool:
        """Whether there is room for a part of this call's answer."""
        held = sum(other.waiting for other in self.calls.values())
        return call.waiting < HOLD_AT_LEAST or held < HOLD_AT_MOST

    def _is_gone(self, call: Call) -> bool:
        return self.calls.get(call.id) is not call

    def _after(self, number: int) -> Call | None:
        self._forget()
        return next((call for call in self.calls.values() if call.number > number), None)

    def _forget(self) -> None:
        for id, call in list(self.calls.items()):  # noqa: A001
            if call.ended and _now() - call.heard_at > FORGOTTEN_S:
                del self.calls[id]

    def _check(self) -> None:
        if self.closed:
            raise ChannelClosed(self.closed)

    async def _until(self, true: Callable[[], bool], wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.changed.until(lambda: bool(self.closed) or true())


class Channels:
    """All channels of a sandbox, by name."""

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note
        self._open: dict[str, Channel] = {}

    def open(self, name: str) -> Channel:
        """The channel of this name; a new one where it is not there, or was closed."""
        channel = self._open.get(name)
        if channel is None or channel.closed:
            channel = self._open[name] = Channel(name, self._note)
        return channel

    def find(self, name: str) -> Channel:
        """One that is there; raises ChannelClosed."""
        if name not in self._open:
            raise ChannelClosed(f"there is no channel {name}: was the sandbox restarted?")
        return self._open[name]


def _shown(body: bytes) -> dict[str, object]:
    return {"bytes": len(body), "text": body[:SHOWN].decode("utf-8", "replace")}


def _now() -> float:
    return asyncio.get_running_loop().time()
