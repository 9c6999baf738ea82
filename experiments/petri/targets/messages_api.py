"""A target behind the Messages API: TARGET_MODEL, with ANTHROPIC_API_KEY."""

import os

import anthropic

_CLIENT = anthropic.Anthropic()


def reply(system: str, messages: list[dict[str, str]]) -> str:
    """What it says next; `messages` have `role` and `content`, the user's last."""
    asked = {"model": os.environ["TARGET_MODEL"], "max_tokens": 2000, "messages": messages}
    with _CLIENT.messages.stream(**asked, **({"system": system} if system else {})) as stream:
        answer = stream.get_final_message()
    words = "".join(block.text for block in answer.content if block.type == "text")
    # The API takes no empty message, and a target that refuses may say nothing.
    return words.strip() or f"[no words: {answer.stop_reason}]"
