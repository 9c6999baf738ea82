"""The bounds of a run: turns, tokens, dollars, time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.config import AgentConfig

NEAR = 0.85
"""Share of a bound at which the agent is told to wrap up."""
LAST_TURNS = 3


@dataclass(frozen=True)
class Used:
    """What a run has used so far; times in seconds."""

    turns: int
    tokens: int
    cost_usd: float
    time_s: float


@dataclass(frozen=True)
class Bound:
    """One bound: what is used of it, and of how much."""

    name: str
    used: float
    most: float

    @property
    def reached(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.most

    @property
    def near(self) -> bool:
        """Whether it is time to wrap up."""
        if self.name == "turns":
            return self.most - self.used <= min(LAST_TURNS, self.most // 2)
        return self.used >= self.most * NEAR

    @property
    def words(self) -> str:
        """How it stands."""
        match self.name:
            case "turns":
                return f"{self.used:g} of {self.most:g} turns"
            case "tokens":
                return f"{self.used:,.0f} of {self.most:,.0f} tokens"
            case "usd":
                return f"${self.used:.2f} of ${self.most:.2f}"
        return f"{self.used:.0f} of {self.most:.0f} seconds"


def bounds(config: AgentConfig, timeout_s: float, used: Used) -> Iterator[Bound]:
    """Every bound that the run has."""
    yield Bound("turns", used.turns, config.max_turns)
    if config.max_tokens is not None:
        yield Bound("tokens", used.tokens, config.max_tokens)
    if config.max_cost_usd is not None:
        yield Bound("usd", used.cost_usd, config.max_cost_usd)
    yield Bound("time", used.time_s, timeout_s)


def notice(bound: Bound) -> str:
    """What the agent is told near a bound."""
    return (
        f"[runner] {bound.words} are used. Wrap up now: write what is to be kept into outputs/, "
        "say what you found and what is missing, and end."
    )
