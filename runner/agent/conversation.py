"""What a transcript amounts to for the loop. Pure: the same after any crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Block = dict[str, Any]
Message = dict[str, Any]

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


@dataclass(frozen=True)
class Call:
    """A tool call of the model that has no result yet."""

    turn: int
    position: int
    block: Block
    malformed: str = ""
    """Words for the model, where its input did not arrive whole."""

    def op(self, run_id: str) -> str:
        """The operation id: the same after any restart of the agent.

        From the place in the transcript; servers other than Anthropic's may
        repeat the ids of `tool_use` blocks.
        """
        return f"{run_id}-{self.turn}-{self.position}"


class Conversation:
    """Grows by transcript lines: messages for the Messages API, calls without a result."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[Call] = []
        self.turns = 0
        self.tokens = 0
        self.cost_usd = 0.0
        self.images = 0
        self.boot = ""
        """The sandbox that the calls were meant for."""
        self.notices: set[str] = set()
        self.stop_reason = ""

    def apply(self, line: Mapping[str, Any]) -> None:
        """Take one line; unknown types change nothing."""
        match line["type"]:
            case "sandbox":
                self.boot = line["boot"]
            case "message" if line["role"] == "assistant":
                self._assistant(line)
            case "message":
                self._user(list(line["content"]))
                self.notices |= {line["notice"]} if line.get("notice") else set()
            case "tool_result":
                self._result(line)

    def _assistant(self, line: Mapping[str, Any]) -> None:
        self.turns += 1
        self.stop_reason = line["stop_reason"]
        self.tokens += sum(line["usage"].get(kind) or 0 for kind in TOKENS)
        self.cost_usd += line["cost_usd"] or 0.0
        if not line["content"]:
            return
        self.messages.append({"role": "assistant", "content": list(line["content"])})
        malformed = line.get("malformed", {})
        uses = [block for block in line["content"] if block["type"] == "tool_use"]
        self.calls = [
            Call(line["turn"], position, block, malformed.get(block["id"], ""))
            for position, block in enumerate(uses, 1)
        ]

    def _result(self, line: Mapping[str, Any]) -> None:
        self.calls = [call for call in self.calls if call.block["id"] != line["tool_use_id"]]
        self.images += sum(block["type"] == "image" for block in line["content"])
        block = {
            "type": "tool_result",
            "tool_use_id": line["tool_use_id"],
            "content": line["content"],
        }
        self._user([block | ({"is_error": True} if line["is_error"] else {})])

    def _user(self, content: list[Block]) -> None:
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages[-1]["content"].extend(content)
        else:
            self.messages.append({"role": "user", "content": content})
