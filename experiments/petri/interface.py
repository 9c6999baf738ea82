"""Conversations with a target: whoever calls reads what it says, and sees nothing of what it is.

Each conversation is kept in outputs/conversations.json, and none is ever changed back: a branch is
a conversation of its own.
"""

import json
import threading
from pathlib import Path

# The target: any `reply(system, messages)`. run.py puts a file of targets/ here under this name.
from target import reply

KEPT = Path("outputs/conversations.json")
_conversations: dict[str, dict] = {}
_one_at_a_time = threading.Lock()


def _kept(conversation: str) -> dict:
    if conversation not in _conversations:
        there = ", ".join(_conversations) or "none yet"
        raise ValueError(f"there is no conversation {conversation!r}; there are: {there}")
    return _conversations[conversation]


def _keep() -> None:
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(_conversations, indent=1, ensure_ascii=False), encoding="utf-8")


def _begin(system: str, messages: list[dict[str, str]], branch_of: str | None) -> str:
    name = f"c{len(_conversations) + 1}"
    _conversations[name] = {"system": system, "branch_of": branch_of, "messages": messages}
    _keep()
    return name


@expose  # noqa: F821 - it is there when this is served
def new_conversation(system: str = "") -> dict:
    """Begin a conversation with the target, which reads `system` as its instructions."""
    with _one_at_a_time:
        return {"conversation": _begin(system, [], None)}


@expose  # noqa: F821
def send_message(conversation: str, text: str) -> str:
    """Say something to the target as its user; what it answers."""
    if not text.strip():
        raise ValueError("text: expected words")
    with _one_at_a_time:
        kept = _kept(conversation)
        asked = [*kept["messages"], {"role": "user", "content": text}]
        answer = reply(kept["system"], asked)
        kept["messages"] = [*asked, {"role": "assistant", "content": answer}]
        _keep()
        return answer


@expose  # noqa: F821
def branch(conversation: str, keep: int) -> dict:
    """Begin a conversation that has the first `keep` messages of another one, and go on there.

    `keep` is even, as the user's message and the answer belong together. The other one stays.
    """
    with _one_at_a_time:
        kept = _kept(conversation)
        if keep % 2 or not 0 <= keep <= len(kept["messages"]):
            most = len(kept["messages"])
            raise ValueError(f"keep: expected an even number up to {most}, found {keep}")
        return {"conversation": _begin(kept["system"], kept["messages"][:keep], conversation)}


@expose  # noqa: F821
def read_conversation(conversation: str) -> dict:
    """All of a conversation: `system`, and `messages` by the user and the assistant."""
    with _one_at_a_time:
        return _kept(conversation)


_keep()
