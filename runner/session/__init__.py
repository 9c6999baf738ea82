"""What runs outside of a sandbox and talks to it."""

from runner.session.client import Session
from runner.session.results import Endpoint, LostOperation, Result

__all__ = ["Endpoint", "LostOperation", "Result", "Session"]
