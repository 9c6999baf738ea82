"""The Messages API, streamed: Anthropic's, or any server that speaks it at `base_url`.

HTTP, events and the accumulation of a message are the SDK's. Ours is what it
leaves open: a stream cut midway is tried again as a whole, a stream that ends
without its last event counts as cut, and a tool input that is not JSON costs one
tool call, not the message.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import anthropic
import httpx2
from anthropic.lib.streaming import MessageStream
from anthropic.types import RawMessageStreamEvent
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from runner.agent.providers.base import NO_USAGE, STOPPED, Block, Message, ProviderRefused, Reply
from runner.errors import ConfigError, InfrastructureError

MAX_OUTPUT_TOKENS = 16_384
CACHE = {"type": "ephemeral"}

# Error types that come as an event within a stream, whose HTTP status is 200.
_TRANSIENT = {"overloaded_error", "api_error", "rate_limit_error", "timeout_error"}
_HINTS = {
    401: "check the API key, and that it belongs to the server at base_url",
    403: "check what the API key may use",
    404: "check the name of the model and base_url",
}
_backoff = wait_exponential(multiplier=0.5, max=30.0) + wait_random(0.0, 0.5)


class Anthropic:
    """A model behind the Messages API."""

    def __init__(
        self,
        model: str,
        api_key: str,
        *,
        base_url: str | None = None,
        max_output_tokens: int = MAX_OUTPUT_TOKENS,
        deadline_s: float = 600.0,
        read_timeout_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect lazily; nothing is sent before the first `reply`.

        Without `base_url`, the SDK's rule holds: ANTHROPIC_BASE_URL, else the public
        API. No attempt starts later than `deadline_s` after the first one, none lasts
        longer than that, and a stream that is silent for `read_timeout_s` counts as cut.
        """
        self._key = usable(api_key)
        self.model = model
        self.max_output_tokens = max_output_tokens
        self.deadline_s = deadline_s
        self._sleep = sleep
        self._client = anthropic.Anthropic(
            api_key=self._key,
            base_url=base_url,
            max_retries=0,
            timeout=anthropic.Timeout(read_timeout_s, connect=min(10.0, read_timeout_s)),
        )
        self.base_url = str(self._client.base_url)

    def __repr__(self) -> str:
        return f"Anthropic(model={self.model!r}, base_url={self.base_url!r})"

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

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
        """The model's next message; see `Provider.reply`."""
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_output_tokens,
            "messages": cached(messages),
        }
        if system:  # The tools come before the system text: its breakpoint caches both.
            request["system"] = [{"type": "text", "text": system, "cache_control": CACHE}]
        if tools:
            request["tools"] = tools

        def before_sleep(state: RetryCallState) -> None:
            on_retry(str(_failure(state)), state.upcoming_sleep)

        retrying = Retrying(
            retry=retry_if_exception_type(_Again),
            wait=lambda state: _failure(state).delay_s or _backoff(state),
            stop=stop_before_delay(self.deadline_s),
            sleep=self._sleep,
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            return retrying(self._attempt, request, on_text, stopped)
        except _Again as failure:
            raise InfrastructureError(
                f"{self.base_url} gave no whole reply within {self.deadline_s:g} s: {failure}",
                hint="nothing is lost: `resume` goes on from here",
            ) from None

    def _attempt(
        self,
        request: dict[str, Any],
        on_text: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Reply:
        if stopped():  # while it waited for another attempt
            return Reply([], STOPPED, NO_USAGE, self.model)
        # `from None` below: the SDK's errors may quote a server that quoted the key.
        try:
            with self._client.messages.create(**request, stream=True) as raw:
                self._check_is_stream(raw.response)
                events = _Events(raw, time.monotonic() + self.deadline_s, stopped)
                stream = MessageStream(cast(Any, events), output_format=anthropic.NOT_GIVEN)
                try:
                    for event in stream:
                        if event.type == "text":
                            on_text(event.text)
                except _Stopped:
                    return _so_far(stream.current_message_snapshot.to_dict(mode="json"))
                message = stream.get_final_message()
        except anthropic.APIStatusError as error:
            raise self._judge(error) from None
        except anthropic.APIConnectionError as error:
            cause = str(error.__cause__ or error)
            raise _Again(self._masked(f"connection failed: {cause}")) from None
        return _as_reply(message.to_dict(mode="json"), events.inputs)

    def _check_is_stream(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "no content type")
        if "text/event-stream" not in kind:
            raise ProviderRefused(
                f"{self.base_url} answered {response.status_code} with {kind}, not an event stream",
                hint="check base_url: it must be a server that speaks the Messages API",
            )

    def _judge(self, error: anthropic.APIStatusError) -> Exception:
        status, headers = error.status_code, error.response.headers
        words = self._masked(error.api_message or str(error))
        reason = f"{error.type or 'error'}: {words}"
        if status == 200:  # an `error` event within the stream
            transient = error.type in _TRANSIENT
        else:
            reason = f"{status} {reason}"
            transient = status in (408, 409, 429) or status >= 500
        transient = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), transient)
        if transient:
            return _Again(reason, retry_after_s(headers))
        return ProviderRefused(
            f"{self.base_url} refused the request: {reason}", hint=_HINTS.get(status, "")
        )

    def _masked(self, words: str) -> str:
        return words.replace(self._key, "***")[:1_000]


def usable(api_key: str) -> str:
    """The key as it is sent; ConfigError, which does not show it, for what is none."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            file="secrets",
            key="the model's API key",
            expected="printable ASCII characters",
            found="none" if not key else "others (not shown)",
        )
    return key


def reply_in(answer: httpx2.Response, client: anthropic.Anthropic) -> Reply | None:
    """The model's message in an answer to somebody else; None if there is none.

    Of one that was cut, as much as came of it, as of one that was stopped.
    """
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        message = answer.json()
        return _as_reply(message, {}) if message.get("type") == "message" else None
    raw = anthropic.Stream(cast_to=cast(Any, RawMessageStreamEvent), response=answer, client=client)
    events = _Events(raw, math.inf, lambda: False)
    stream = MessageStream(cast(Any, events), output_format=anthropic.NOT_GIVEN)
    begun = False
    try:
        for _ in stream:
            begun = True
    except (_Again, anthropic.APIStatusError):
        return _so_far(stream.current_message_snapshot.to_dict(mode="json")) if begun else None
    return _as_reply(stream.get_final_message().to_dict(mode="json"), events.inputs)


class _Again(Exception):
    """An attempt failed in a way that another one may not; `delay_s` is the server's wish."""

    def __init__(self, reason: str, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class _Stopped(Exception):
    """Somebody does not want the rest of the message."""


def _failure(state: RetryCallState) -> _Again:
    assert state.outcome is not None  # noqa: S101 - tenacity sets it before it asks
    return cast(_Again, state.outcome.exception())


class _Events:
    """The events of one stream, whole or `_Again`, without the pieces of tool inputs.

    Given those, the SDK parses the input anew after every piece, gives up the
    whole message at the first one that is not JSON, and takes an input that ends
    early for a finished one. Kept as text in `inputs` they can be judged at the end.
    """

    def __init__(
        self, raw: anthropic.Stream[Any], deadline: float, stopped: Callable[[], bool]
    ) -> None:
        self.raw, self.deadline, self.stopped = raw, deadline, stopped
        self.inputs: dict[int, str] = {}

    @property
    def response(self) -> httpx2.Response:
        return self.raw.response

    def close(self) -> None:
        self.raw.close()

    def __iter__(self) -> Iterator[Any]:
        first = last = ""
        try:
            for event in self.raw:
                first, last = first or event.type, event.type
                if time.monotonic() > self.deadline:
                    raise _Again("the reply was still streaming at the deadline")
                if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                    text = self.inputs.get(event.index, "")
                    self.inputs[event.index] = text + event.delta.partial_json
                else:
                    yield event
                if self.stopped():
                    raise _Stopped
        except (httpx2.RequestError, ValueError) as error:  # ValueError: an event cut in its data
            reason = str(error) or type(error).__name__
            raise _Again(f"the stream was cut: {reason[:300]}") from None
        if (first, last) != ("message_start", "message_stop"):
            raise _Again("the stream was cut: it ended before the message did")


def cached(messages: list[Message]) -> list[Message]:
    """The same messages with a cache breakpoint on the last block, where that is the user's."""
    *earlier, last = messages
    if last["role"] != "user":  # An assistant's may be a thinking block, which takes none.
        return messages
    content = last["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    marked = [*blocks[:-1], {**blocks[-1], "cache_control": CACHE}]
    return [*earlier, {**last, "content": marked}]


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The wait a server asks for: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            delay = float(value) * unit
        except ValueError:
            try:
                moment = parsedate_to_datetime(value).timestamp()
            except ValueError:
                continue
            delay = moment - (time.time() if now is None else now)
        if math.isfinite(delay) and delay > 0:
            return delay
    return None


def _as_reply(message: Mapping[str, Any], inputs: Mapping[int, str]) -> Reply:
    content: list[Block] = [dict(block) for block in message["content"]]
    stop_reason = message.get("stop_reason") or "end_turn"
    cut = stop_reason not in ("end_turn", "tool_use", "pause_turn", "stop_sequence")
    malformed: dict[str, str] = {}
    for index, block in enumerate(content):
        if block["type"] not in ("tool_use", "server_tool_use"):
            continue
        text = inputs.get(index, "")
        if not text and not (cut and index == len(content) - 1 and not block.get("input")):
            continue  # An input without a piece is the one that its block began with.
        block["input"], problem = _parsed(text)
        if problem and cut:
            problem = f"it was cut off ({stop_reason}) after {len(text):,} characters"
        if problem:
            malformed[block["id"]] = (
                f"The input of this call did not arrive as a JSON object: {problem}. "
                "Nothing was run. "
                + ("Send less at a time, in several calls." if cut else "Send the call again.")
            )
    usage = {key: message["usage"].get(key) or 0 for key in NO_USAGE}
    # The API itself can end a message with an empty text, but refuses to be sent one.
    content = [block for block in content if block["type"] != "text" or block["text"].strip()]
    return Reply(content, stop_reason, usage, message["model"], malformed)


def _so_far(message: Mapping[str, Any]) -> Reply:
    """What has come of a message that was stopped: its text; a call or a thought is not whole."""
    texts = [dict(block) for block in message["content"] if block["type"] == "text"]
    content = [block for block in texts if block["text"].strip()]
    usage = {key: message["usage"].get(key) or 0 for key in NO_USAGE}
    return Reply(content, STOPPED, usage, message["model"])


def _parsed(text: str) -> tuple[dict[str, Any], str]:
    """A tool input, and what is wrong with it."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 40) : error.pos + 40]
        return {}, f"{error.msg} at character {error.pos + 1}, near {near!r}"
    return (value, "") if isinstance(value, dict) else ({}, f"it is {text[:80]!r}")
