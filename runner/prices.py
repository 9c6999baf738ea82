"""What a model's tokens cost: list prices, and the one that a model's name leads to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field

from runner.config.parts import Table


class Price(Table):
    """Dollars per million tokens of one model."""

    input: float = Field(ge=0, description="Tokens that are neither read from the cache nor kept.")
    output: float = Field(ge=0, description="Tokens of the reply, thinking among them.")
    cache_read: float = Field(ge=0, description="Tokens read from the prompt cache.")
    cache_write: float = Field(ge=0, description="Tokens kept in the prompt cache for 5 minutes.")
    long_prompt: int | None = Field(
        default=None,
        ge=1,
        description="Prompts of more tokens than this cost `long_factor` times as much.",
    )
    long_factor: float = Field(default=1.0, ge=1, description="See `long_prompt`.")

    def cost(self, usage: Mapping[str, int]) -> float:
        """Dollars for one reply, by the `usage` that the Messages API reports."""
        fresh = usage.get("input_tokens") or 0
        read = usage.get("cache_read_input_tokens") or 0
        written = usage.get("cache_creation_input_tokens") or 0
        dollars = fresh * self.input + read * self.cache_read + written * self.cache_write
        dollars += (usage.get("output_tokens") or 0) * self.output
        long = self.long_prompt is not None and fresh + read + written > self.long_prompt
        return dollars * (self.long_factor if long else 1.0) / 1e6


def _price(input: float, output: float, read: float) -> Price:  # noqa: A002
    return Price(input=input, output=output, cache_read=read, cache_write=input * 1.25)


_HAIKU_5_5 = {"long_prompt": 100_000, "long_factor": 5.0}

PRICES: Mapping[str, Price] = {
    "claude-fable-5-1": _price(10, 50, 0.25),
    "claude-mythos-5-1": _price(10, 50, 0.25),
    "claude-fable-5": _price(10, 50, 1),
    "claude-mythos-5": _price(10, 50, 1),
    "claude-opus-5-5": _price(4, 20, 0.20),
    "claude-opus-5": _price(5, 25, 0.50),
    "claude-opus-4": _price(15, 75, 1.50),
    "claude-opus-4-5": _price(5, 25, 0.50),
    "claude-opus-4-6": _price(5, 25, 0.50),
    "claude-opus-4-7": _price(5, 25, 0.50),
    "claude-opus-4-8": _price(5, 25, 0.50),
    "claude-sonnet-5-5": _price(2, 10, 0.10),
    "claude-sonnet-5": _price(2, 10, 0.20),
    "claude-sonnet-4": _price(3, 15, 0.30),
    "claude-haiku-5-5": _price(0.10, 0.50, 0.01).model_copy(update=_HAIKU_5_5),
    "claude-haiku-4-5": _price(1, 5, 0.10),
}
"""List prices of the current Claude models, by the beginning of the model's name.

From https://platform.claude.com/docs/en/about-claude/pricing as it was on 2026-10-24, when
Haiku 5.5 and the lower cache price of Sonnet 5.5 were new. Cache writes are those for 5
minutes, 1.25 times the input. Haiku 5.5 costs five times as much for a reply to a prompt of
more than 100,000 tokens. A batch, priority or regional rate goes into the settings' `prices`.
"""


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """The price under the longest beginning of the model's name; None if there is none."""
    return prices.get(max((p for p in prices if _begins(model, p)), key=len, default=""))


def _begins(model: str, prefix: str) -> bool:
    """Whether `prefix` is `model` up to a whole part: `claude-opus-5` is not `…-opus-51`."""
    return re.match(re.escape(prefix) + r"(?![A-Za-z0-9])", model) is not None
