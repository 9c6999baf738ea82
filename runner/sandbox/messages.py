"""Messages of the kernel's protocol, and what became of a request."""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import dataclass, field
from typing import Any, cast

from jupyter_client.session import Session

Message = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """How the kernel answered one execution."""

    status: str
    """ok, error or aborted; died when the kernel did."""
    execution_count: int | None = None
    ename: str = ""


DIED = Reply("died")


@dataclass(eq=False)
class Request:
    """What came back so far: a reply on one socket; on another all output, and idle at its end."""

    reply: Reply | None = None
    idle: bool = False
    ename: str = ""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def answered(self, reply: Reply) -> None:
        """The reply came."""
        self.reply = self.reply or reply
        if self.idle:
            self.complete.set()

    def went_idle(self) -> None:
        """All output came."""
        self.idle = True
        if self.reply is not None:
            self.complete.set()


def decode(session: Session, frames: list[bytes]) -> Message | None:
    """Make a message, or None for what is none. Raises ValueError, RecursionError.

    Not by `Session.deserialize`, which parses all dates: a third of a cell's round trip here.
    """
    _, received = session.feed_identities(frames)
    signature, *parts = cast(list[bytes], received)[:5]
    if len(parts) < 4 or not hmac.compare_digest(signature, session.sign(parts)):
        return None
    header, parent, metadata, content = map(json.loads, parts)
    if not all(isinstance(part, dict) for part in (header, parent, metadata, content)):
        return None
    kind = header.get("msg_type")
    needs = {"stream": ("name", "text"), "status": ("execution_state",)}.get(kind, ())
    if not isinstance(kind, str) or any(key not in content for key in needs):
        return None
    return {"msg_type": kind, "parent_header": parent, "metadata": metadata, "content": content}
