"""Asking a server again that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx
import tenacity

from runner.errors import SandboxUnreachable

T = TypeVar("T")


def until_answered(attempt: Callable[[], T], url: str, reconnect_s: float) -> T:
    """What `attempt` returns, once it is not cut off.

    Raises SandboxUnreachable when it fails `reconnect_s` seconds after it first
    failed: an answer may have been waited for, or have been coming, for longer.
    """
    failed_at: list[float] = []

    def too_long(state: tenacity.RetryCallState) -> bool:
        failed_at.append(state.outcome_timestamp or 0.0)
        return failed_at[-1] - failed_at[0] >= reconnect_s

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError),
        wait=tenacity.wait_random_exponential(0.05, max=2.0),
        stop=too_long,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except httpx.TransportError as error:
        raise SandboxUnreachable(
            f"the sandbox at {url} has not answered for {reconnect_s:g} s: "
            f"{error or type(error).__name__}"
        ) from error
