"""What runs outside of a sandbox and talks to it."""

from runner.session.channel import Asked, Channel
from runner.session.client import RECONNECT_S, Session
from runner.session.results import Endpoint, LostOperation, Result
from runner.session.talk import CHAT, ENDED, Talk

__all__ = [
    "CHAT",
    "ENDED",
    "RECONNECT_S",
    "Asked",
    "Channel",
    "Endpoint",
    "LostOperation",
    "Result",
    "Session",
    "Talk",
]
