"""What a command asks of models: written down, counted, and refused at a bound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from runner.agent.bounds import Bound, Used, bounds, notice
from runner.agent.providers import Reply
from runner.agent.stop import Outcome
from runner.plan import RunPlan
from runner.prices import PRICES, Price, price_of
from runner.record import Record

Said = Mapping[str, Any]


class Meter:
    """Counts replies by their own `usage`. Its methods may be called from several threads.

    What goes on at the same time is bounded before it begins, by what had ended: calls that run
    side by side can be over a bound together. `masked` takes out of what is said what the sandbox
    knows to be secret; `warn` is told when a bound is near, but of those in `told`.
    """

    def __init__(
        self,
        plan: RunPlan,
        record: Record,
        masked: Callable[[Said], Said],
        warn: Callable[[str], None],
        told: Collection[str] = (),
    ) -> None:
        self._plan, self._record, self._masked, self._warn = plan, record, masked, warn
        self._told = set(told)
        self._guard = threading.RLock()
        self._asked = 0
        self._last = (0, 0.0)
        """Tokens and dollars of the last reply."""
        self._system: Any = None
        self._refused: Outcome | None = None

    def look(self, time_s: float = 0.0) -> Outcome | None:
        """The end of the run, if its time is over after so many seconds, or a bound has refused.

        What the last reply asks for can still be done. Warns near a bound, once.
        """
        with self._guard:
            for bound in self._bounds(time_s):
                if bound.reached and bound.name == "time":
                    return bound.outcome
                if bound.near and bound.key not in self._told:
                    self._told.add(bound.key)
                    words, turn = notice(bound), self._record.state().turns
                    content = [{"type": "text", "text": words}]
                    more = {"turn": turn, "role": "user", "content": content}
                    self._record.say("message", **more, notice=bound.key)
                    self._warn(words)
            return self._refused

    def _bounds(self, time_s: float = 0.0) -> list[Bound]:
        run = self._record.state()
        used = Used(run.turns, sum(run.tokens.values()), run.cost_usd or 0.0, time_s, *self._last)
        return list(
            bounds(self._plan.experiment.agent, self._plan.experiment.sandbox.timeout, used)
        )

    def refusal(self, asked: Said) -> str:
        """Why a request is not passed on; empty if it is."""
        for bound in self._bounds():
            if bound.reached:
                self._refused = bound.outcome
                return f"a bound of the run is reached: {bound.words}"
        model = str(asked.get("model"))
        if self._plan.experiment.agent.max_cost_usd is not None and self._price(model) is None:
            return f"the run is bounded in dollars, and nobody knows the price of {model}"
        return ""

    def asked(self, asked: Said) -> int:
        """Write down what is new in a request; its number."""
        messages = asked.get("messages")
        known = messages if isinstance(messages, list) else []
        said = {"system": asked.get("system"), "content": known[-1:]}
        said = dict(self._masked(said))
        with self._guard:
            self._asked += 1
            number = self._asked
            if said["system"] == self._system:
                del said["system"]
            else:
                self._system = said["system"]
        model = asked.get("model")
        self._record.say("request", number=number, model=model, messages=len(known), **said)
        return number

    def answered(self, number: int, asked: Said, reply: Reply) -> None:
        """Write down a reply, with what it cost."""
        price = self._price(str(asked.get("model")))
        cost = price.cost(reply.usage) if price else None
        said = self._masked({"content": reply.content, "malformed": dict(reply.malformed)})
        with self._guard:
            self._last = sum(reply.usage.values()), cost or 0.0
            self._record.say(
                "message",
                turn=self._record.state().turns + 1,
                role="assistant",
                request=number,
                model=reply.model,
                stop_reason=reply.stop_reason,
                usage=dict(reply.usage),
                cost_usd=cost,
                **said,
            )
            self.look()

    def failed(self, number: int, words: str) -> None:
        """Write down that a request has no answer; whether it is sent again, the command knows."""
        self._record.say("request_failed", number=number, reason=words)

    def _price(self, model: str) -> Price | None:
        own = model == self._plan.experiment.agent.model
        return self._plan.price if own else price_of(model, PRICES)
