"""Keeps a long conversation small: old tool results become one line. Pure.

The notebook is the memory; a cell can be read again. What the function returns
depends on the conversation alone, and changes in big steps (half the limit's worth
of old messages at a time), so that the prompt cache holds from turn to turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from runner.agent.text import shorten

Message = dict[str, Any]
Block = dict[str, Any]

IMAGE_CHARS = 6_000
"""What an image counts for: about 1,500 tokens of 4 characters."""
_SMALL = 500


def compact(messages: Sequence[Message], *, keep_last: int, limit_chars: int) -> list[Message]:
    """The same conversation, in about `limit_chars` characters where that is possible.

    Tool results of old messages lose their images first, then their text. The last
    `keep_last` messages, every call and all that the assistant said stay as they are,
    so that a conversation can stay longer than the limit. One that keeps it is returned
    as it is: it makes no difference whether the whole conversation is given each time,
    or the last result and what came since.
    """
    tools = {
        block["id"]: block["name"]
        for message in messages
        for block in _blocks(message)
        if block["type"] == "tool_use"
    }
    whole = [(message, _size(message)) for message in messages]
    no_images = [(m, _size(m)) for m in map(_without_images, messages)]
    no_text = [(m, _size(m)) for m in (_without_text(m, tools) for m, _ in no_images)]

    result, text_until = whole, 0
    for step in _steps([size for _, size in whole[: -keep_last or None]], limit_chars // 2):
        for until in (text_until, step):
            if sum(size for _, size in result) <= limit_chars:
                break
            result = [*no_text[:until], *no_images[until:step], *whole[step:]]
        text_until = step
    return [message for message, _ in result]


def _steps(sizes: Sequence[int], width: int) -> list[int]:
    """Indices behind the messages that complete each further `width` characters."""
    steps, total, width = [], 0, max(1, width)
    for index, size in enumerate(sizes):
        if (total + size) // width > total // width:
            steps.append(index + 1)
        total += size
    return steps


def _blocks(message: Message) -> list[Block]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _size(item: Any) -> int:
    match item:
        case {"type": "image"}:
            return IMAGE_CHARS
        case {"content": content}:
            return _size(content)
        case {"type": "text", "text": text}:
            return len(text)
        case list():
            return sum(map(_size, item))
        case str():
            return len(item)
        case _:
            return len(json.dumps(item, ensure_ascii=False))


def _results_changed(message: Message, change: Callable[[Block], list[Block]]) -> Message:
    if message["role"] != "user" or isinstance(message["content"], str):
        return message
    content = [
        {**block, "content": change(block)} if block["type"] == "tool_result" else block
        for block in message["content"]
    ]
    return {**message, "content": content}


def _without_images(message: Message) -> Message:
    gone = {"type": "text", "text": "[an image, left out of the conversation by now]"}

    def change(result: Block) -> list[Block]:
        return [gone if part["type"] == "image" else part for part in _blocks_of(result)]

    return _results_changed(message, change)


def _without_text(message: Message, tools: dict[str, str]) -> Message:
    def change(result: Block) -> list[Block]:
        parts = _blocks_of(result)
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        if len(text) <= _SMALL:
            return parts
        state = shorten(text.rstrip().rsplit("\n", 1)[-1], 200)
        tool = tools.get(result["tool_use_id"], "the tool")
        pointer = (
            f"[result of {tool}: {len(text):,} characters, left out of the conversation by now; "
            f"read_notebook and read_cell show cells again]\n{state}"
        )
        return [{"type": "text", "text": pointer}]

    return _results_changed(message, change)


def _blocks_of(result: Block) -> list[Block]:
    return _blocks({"content": result.get("content", "")})
