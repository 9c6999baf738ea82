"""The seam: what the loop asks of a provider, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from runner.errors import RunnerError

Block = dict[str, Any]
Message = dict[str, Any]

NO_USAGE: Mapping[str, int] = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}


STOPPED = "interrupted"
"""Why a message ends that somebody stopped."""


class ProviderRefused(RunnerError):
    """The provider will not answer this request, however often it is asked."""

    exit_status = 1


@dataclass(frozen=True)
class Reply:
    """One whole message of the model.

    `content` holds Messages API blocks as plain dicts, ready to be sent back as
    they are; it may be empty, and an empty message must not be sent back. Tool
    calls are the `tool_use` blocks, whatever `stop_reason` says. A call whose
    input did not arrive whole has `{}` as its input and is named in `malformed`
    (`tool_use` id → words for the model): it is not run, the words are its
    result, with `is_error`.
    """

    content: list[Block]
    stop_reason: str
    usage: Mapping[str, int]
    model: str
    malformed: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """Answers a conversation."""

    def reply(
        self,
        *,
        system: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        on_text: Callable[[str], None],
        on_retry: Callable[[str, float], None],
        stopped: Callable[[], bool],
    ) -> Reply:
        """The model's next message.

        `on_text` gets text as it arrives; after `on_retry(reason, delay_s)`, called
        before the wait, the message begins anew. Once `stopped` is true, what has come so
        far is returned, with `stop_reason` STOPPED and without calls. Raises `ProviderRefused`
        for what no retry mends, and `InfrastructureError` when retries did not help in time.
        """
        ...
