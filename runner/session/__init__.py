"""What runs outside of a sandbox and talks to it."""

from runner.session.client import Endpoint, Result, Session

__all__ = ["Endpoint", "Result", "Session"]
