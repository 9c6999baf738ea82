"""The bounds of a run: turns, tokens, dollars, time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.agent.stop import Outcome
from runner.config.experiment import AgentConfig

NEAR = 0.85
"""Share of a bound at which the agent is told to wrap up."""
SHORTEST_WAIT_S = 1.0
"""What a tool may wait even when the agent is to be told of the time."""
LAST_TURNS = 3
"""Or with so many turns left, if the next ones take what the last one took."""


@dataclass(frozen=True)
class Used:
    """What a run has used so far, and its last turn alone; times in seconds."""

    turns: int
    tokens: int
    cost_usd: float
    time_s: float
    turn_tokens: int = 0
    turn_cost_usd: float = 0.0


@dataclass(frozen=True)
class Bound:
    """One bound: what is used of it, of how much, and what one turn takes."""

    name: str
    used: float
    most: float
    step: float = 0.0

    @property
    def key(self) -> str:
        """What a notice about it is known by; a bound that was raised has another one."""
        return f"{self.name} {self.most:g}"

    @property
    def reached(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.most

    @property
    def near(self) -> bool:
        """Whether it is time to wrap up."""
        left = self.most - self.used
        if self.name == "turns":
            return left <= min(LAST_TURNS, self.most // 2)
        return self.used >= self.most * NEAR or left <= LAST_TURNS * self.step

    @property
    def words(self) -> str:
        """How it stands."""
        match self.name:
            case "turns":
                return f"{self.used:g} of {self.most:g} replies"
            case "tokens":
                return f"{self.used:,.0f} of {self.most:,.0f} tokens"
            case "usd":
                return f"${self.used:.2f} of ${self.most:.2f}"
        return f"{self.used:.0f} of {self.most:.0f} seconds"

    @property
    def outcome(self) -> Outcome:
        """How the run ends at it."""
        if self.name == "time":
            return Outcome("timeout", f"the run's time was over: {self.words}", 124)
        return Outcome("bound", f"a bound was reached: {self.words}", 4, self.name)


def bounds(config: AgentConfig, timeout_s: float, used: Used) -> Iterator[Bound]:
    """Every bound that the run has."""
    if config.max_turns is not None:
        yield Bound("turns", used.turns, config.max_turns, 1)
    if config.max_tokens is not None:
        yield Bound("tokens", used.tokens, config.max_tokens, used.turn_tokens)
    if config.max_cost_usd is not None:
        yield Bound("usd", used.cost_usd, config.max_cost_usd, used.turn_cost_usd)
    yield Bound("time", used.time_s, timeout_s)


def notice(bound: Bound) -> str:
    """What the agent is told near a bound."""
    return (
        f"[runner] {bound.words} are used, and at the bound the run ends. Wrap up now: write what "
        "is to be kept into outputs/, then say what you found and what is missing, without a tool "
        "call."
    )
