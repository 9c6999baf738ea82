"""What a transcript amounts to for the loop. Pure: the same after any crash."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from runner.agent.providers import STOPPED, Reply
from runner.record.run import TOKENS

Block = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A tool call of the model that has no result yet."""

    turn: int
    position: int
    block: Block
    boot: str = ""
    """The sandbox that it was meant for."""
    malformed: str = ""
    """Words for the model, where its input did not arrive whole."""

    def op(self, run_id: str) -> str:
        """The operation id: the same after any restart of the agent.

        From the place in the transcript; servers other than Anthropic's may
        repeat the ids of `tool_use` blocks.
        """
        return f"{run_id}-{self.turn}-{self.position}"


class Conversation:
    """Grows by transcript lines: messages for the Messages API, calls without a result.

    A message that was handed out is never changed: a longer one takes its place.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[Call] = []
        self.stop_reason = ""
        """Why the model stopped, until somebody else has said something."""
        self.turns = 0
        self.tokens = self.turn_tokens = 0
        self.cost_usd = self.turn_cost_usd = 0.0
        self.images = 0
        """How many the model was shown."""
        self.empty = 0
        """How many of its last messages in a row were empty."""
        self.overflows = 0
        """How often the conversation did not fit into the model's context."""
        self.boot = ""
        """The sandbox that answers."""
        self.asked = ""
        """The sandbox that answered when the model last spoke."""
        self.notices: set[str] = set()
        self.ids: set[str] = set()
        """Ids of all `tool_use` blocks so far."""

    def apply(self, line: Mapping[str, Any]) -> None:
        """Take one line; unknown types change nothing."""
        match line["type"]:
            case "sandbox":
                self.boot = line["boot"]
            case "attempt" if self.stop_reason == "refusal":
                self.stop_reason = ""  # whoever resumes a refused run asks once more
            case "message" if line["role"] == "assistant":
                self._assistant(line)
            case "message":
                self._append("user", line["content"])
                self.stop_reason = ""
                self.notices |= {line["notice"]} if line.get("notice") else set()
            case "tool_result":
                self._result(line)

    def _assistant(self, line: Mapping[str, Any]) -> None:
        self.turns += 1
        self.turn_tokens = sum(line["usage"].get(kind) or 0 for kind in TOKENS)
        self.tokens += self.turn_tokens
        self.turn_cost_usd = line["cost_usd"] or 0.0
        self.cost_usd += self.turn_cost_usd
        self.stop_reason, self.asked = line["stop_reason"], self.boot
        self.overflows += self.stop_reason == "model_context_window_exceeded"
        content, malformed = line["content"], line.get("malformed") or {}
        self.empty = 0 if content or self.stop_reason == STOPPED else self.empty + 1
        uses = [block for block in content if block["type"] == "tool_use"]
        self.ids |= {block["id"] for block in uses}
        # What was said before a refusal is not to be used, nor to be sent back.
        if not content or self.stop_reason == "refusal":
            return
        self._append("assistant", content)
        self.calls = [
            Call(line["turn"], position, block, self.boot, malformed.get(block["id"], ""))
            for position, block in enumerate(uses, 1)
        ]

    def _result(self, line: Mapping[str, Any]) -> None:
        place = tuple(line["op"].rsplit("-", 2)[1:])
        self.calls = [c for c in self.calls if (str(c.turn), str(c.position)) != place]
        self.images += sum(block["type"] == "image" for block in line["content"])
        self.stop_reason = ""
        block = {
            "type": "tool_result",
            "tool_use_id": line["tool_use_id"],
            "content": line["content"],
        }
        self._append("user", [block | ({"is_error": True} if line["is_error"] else {})])

    def _append(self, role: str, content: list[Block]) -> None:
        """Add to the last message where it is of the same role: roles must alternate."""
        if self.messages and self.messages[-1]["role"] == role:
            content = [*self.messages.pop()["content"], *content]
        self.messages.append({"role": role, "content": list(content)})


def sendable(reply: Reply, taken: Collection[str]) -> tuple[list[Block], dict[str, str]]:
    """Content and malformed calls of a reply, as any server of the Messages API takes them back.

    Ids of calls are made unique in the run (`taken` are those so far); half
    surrogate pairs, which UTF-8 does not have, become `?`.
    """
    content, malformed, seen = [], {}, set(taken)
    for number, block in enumerate(_unicode(reply.content), 1):
        if block["type"] == "tool_use":
            words = "" if block["input"] else reply.malformed.get(block["id"], "")
            while not block["id"] or block["id"] in seen:
                block["id"] = f"{block['id'] or 'toolu'}_{number}"
            seen.add(block["id"])
            if words:
                malformed[block["id"]] = words
        content.append(block)
    return content, malformed


def _unicode(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case Mapping():
            return {_unicode(key): _unicode(item) for key, item in value.items()}
        case list():
            return [_unicode(item) for item in value]
    return value
