"""A follower's patience: who merely looks at a run goes on when nobody answers for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from runner.errors import InfrastructureError

T = TypeVar("T")

AWAY_S = 1800.0
"""A laptop that sleeps, a VPN that is cut, an API server that is upgraded: then it is an error."""


class Patience:
    """Looks that may fail for `AWAY_S`; the first failure and the end of it are told by `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Nothing has failed yet."""
        self._say, self._since = say, 0.0

    def look(self, call: Callable[[], T]) -> T | None:
        """What the call returns, None while it fails; InfrastructureError after `AWAY_S` of it."""
        try:
            found = call()
        except InfrastructureError as error:
            now = time.monotonic()
            if not self._since:
                self._since = now
                self._say(
                    f"{error.message}\nwhat runs goes on; it is asked again for "
                    f"{AWAY_S / 60:.0f} minutes (Ctrl-C: no longer)"
                )
            elif now - self._since > AWAY_S:
                raise
            return None
        if self._since:
            self._since = 0.0
            self._say("it answers again")
        return found
