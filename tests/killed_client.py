"""`runner`, killed by itself at a chosen call of the API: `killed_client.py WHEN VERB RESOURCE …`.

WHEN is `before` or `after`, or `interrupt`, which is Ctrl-C while it is made; VERB a method of
Client; the rest is runner's command line. What is made beside it at the same time, by another
thread, is held up. `during send websocket` is in the middle of what it streams to a pod.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.websocket import WebSocket
from runner.cli import main

MIDWAY = 1 << 19
"""Bytes."""
PAIR = {"secrets", "configmaps"}
"""Made at once: of the other one nothing is made."""


def killed(when: str, verb: str, resource: str) -> None:
    """Have this process die when it comes to that call."""
    call = getattr(Client, verb)

    def dying(client: Client, what: str, *given: Any, **named: Any) -> Any:
        if what != resource:
            if when != "interrupt" and {what, resource} == PAIR:
                threading.Event().wait()
            return call(client, what, *given, **named)
        if when == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            return call(client, what, *given, **named)
        if when == "after":
            call(client, what, *given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it was killed")

    setattr(Client, verb, dying)


def killed_midway() -> None:
    """Have this process die when it has streamed so much."""
    send, sent = WebSocket.send, 0

    def dying(websocket: WebSocket, message: bytes) -> None:
        nonlocal sent
        send(websocket, message)
        sent += len(message)
        if sent > MIDWAY:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(WebSocket, "send", dying)  # noqa: B010 - as mypy wants it


if __name__ == "__main__":
    if sys.argv[1] == "during":
        killed_midway()
    else:
        killed(*sys.argv[1:4])
    sys.exit(main(sys.argv[4:]))
