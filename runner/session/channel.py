"""Calls between processes of different sandboxes, which this process passes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runner.session.client import POLL_S, Session


@dataclass(frozen=True)
class Asked:
    """A call that waits for its answer: its number in the channel, its id, its body."""

    number: int
    id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Tokens:
    """Where processes of the sandbox reach a channel, and what lets them call or serve there."""

    url: str
    caller: str = field(repr=False)
    server: str = field(repr=False)


class Channel:
    """One channel of a sandbox. Every call raises as those of its session do.

    OperationError, with the words that it was closed with, where it is closed.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session, self.name = session, name

    def open(self) -> Tokens:
        """Open it; one that is open stays."""
        return Tokens(**self._session.request("PUT", f"/channels/{self.name}").json())

    def close(self, reason: str) -> None:
        """Close it: who waits there is told why."""
        params = {"reason": reason}
        self._session.request("DELETE", f"/channels/{self.name}", params=params)

    # -- the side of who serves ------------------------------------------------------------

    def next(self, after: int) -> Asked | None:
        """The first call after this number; None if there was none for a while."""
        params = {"after": after, "wait": POLL_S}
        got = self._session.request("GET", f"/calls/{self.name}", params=params)
        if got.status_code == 204:
            return None
        head = got.headers
        return Asked(int(head["Runner-Number"]), head["Runner-Call"], got.content)

    def answer(self, call: str, part: int, data: bytes, *, end: bool) -> None:
        """Add a part, counted from 1, to a call's answer, waiting until there is room.

        Raises OperationError where nobody waits for it.
        """
        params = {"part": part, "end": int(end), "wait": POLL_S}
        self._send("POST", call, params, data)

    # -- the side of who calls -------------------------------------------------------------

    def call(self, call: str, body: bytes) -> Iterator[tuple[bytes, bool]]:
        """Ask, and take the answer as it comes, with each piece whether it is the last.

        A piece is empty where there was nothing for a while. An answer that is not taken to its
        end is given up.
        """
        path = f"/calls/{self.name}/{call}"
        self._send("PUT", call, {"wait": POLL_S}, body)
        try:
            number, ended = 0, False
            while not ended:
                params = {"after": number, "wait": POLL_S}
                got = self._session.request("GET", path, params=params)
                number, ended = (
                    int(got.headers["Runner-Number"]),
                    got.headers["Runner-Ended"] == "1",
                )
                yield got.content, ended
        finally:
            self._session.request("DELETE", path)

    def _send(self, method: str, call: str, params: dict[str, float], data: bytes) -> None:
        """Send it, again for as long as there is no room."""
        status, path = 202, f"/calls/{self.name}/{call}"
        while status == 202:
            sent = self._session.request(method, path, params=params, content=lambda: data)
            status = sent.status_code
