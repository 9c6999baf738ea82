"""Turn after turn: what the model says is written down before it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from runner.agent.bounds import Bound, Used, bounds, notice
from runner.agent.compact import compact
from runner.agent.conversation import Call, Conversation
from runner.agent.prompt import system_prompt
from runner.agent.providers import Provider, Reply
from runner.agent.tools import Answer, Toolbox, text
from runner.plan import RunPlan
from runner.record import Record

KEEP_LAST = 8
"""Messages whose tool results are never shortened."""
CONTEXT_CHARS = 400_000
"""About 100,000 tokens: beyond it old results are shortened."""
T = TypeVar("T")
GO_ON = "[runner] Your last message was cut off at its length. Go on, in smaller pieces."


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: str
    reason: str
    exit_status: int
    bound: str | None = None


class Stopped(Exception):
    """Somebody ended the run while it waited; carries the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Stop:
    """Set from a signal handler; looked at wherever the loop waits."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def wait_for(self, work: Callable[[], T], end: float) -> T:
        """Run `work` on a thread and wait for it, until the run is stopped or its time is over."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        while True:
            try:
                return future.result(timeout=0.1)
            except TimeoutError:
                if future.done():  # the work's own TimeoutError
                    raise
            if self.outcome is not None:
                raise Stopped(self.outcome)
            if time.monotonic() > end:
                raise Stopped(Outcome("timeout", "the run's time was over", 124))


class Loop:
    """Drives one run from wherever its transcript stands to its end."""

    def __init__(
        self,
        plan: RunPlan,
        record: Record,
        conversation: Conversation,
        provider: Provider,
        tools: Toolbox,
        stop: Stop,
        left_s: float,
    ) -> None:
        self.plan, self.record, self.conversation = plan, record, conversation
        self.provider, self.tools, self.stop = provider, tools, stop
        self._end = time.monotonic() + left_s
        self._spent_s = plan.experiment.sandbox.timeout - left_s
        self._begun = time.monotonic()

    def run(self) -> Outcome:
        """Converse until the model ends, or a bound or somebody ends it.

        Raises RunnerError when the provider or the sandbox gives up.
        """
        if not self.conversation.messages:
            task = [{"type": "text", "text": self.plan.experiment.task}]
            self._say("message", turn=0, role="user", content=task)
        try:
            self._catch_up()
            while True:
                for call in list(self.conversation.calls):
                    self._answer(call)
                if outcome := self._bound() or self._turn():
                    return outcome
        except Stopped as stopped:
            return stopped.outcome

    def _catch_up(self) -> None:
        """Answer what an earlier attempt left open: it was meant for the sandbox of that time."""
        session = self.tools.session
        current, session.boot = session.boot, self.conversation.boot or session.boot
        for call in list(self.conversation.calls):
            self._answer(call)
        session.boot = current

    def _turn(self) -> Outcome | None:
        """One reply of the model; an outcome if it ends the run."""
        turn = self.conversation.turns + 1
        messages = compact(
            self.conversation.messages, keep_last=KEEP_LAST, limit_chars=CONTEXT_CHARS
        )
        reply: Reply = self.stop.wait_for(
            lambda: self.provider.reply(
                system=system_prompt(self.plan),
                messages=messages,
                tools=self.tools.definitions(),
                on_text=lambda _: None,
                on_retry=lambda reason, delay_s: self._say("retry", reason=reason, delay_s=delay_s),
            ),
            self._end,
        )
        price, spoke = self.plan.price, any(reply.usage.values())
        self._say(
            "message",
            turn=turn,
            role="assistant",
            content=reply.content,
            model=reply.model,
            stop_reason=reply.stop_reason,
            usage=dict(reply.usage),
            cost_usd=price.cost(reply.usage) if price else None if spoke else 0.0,
            malformed=dict(reply.malformed),
        )
        if self.conversation.calls:
            return None
        match reply.stop_reason:
            case "refusal":
                return Outcome("failed", "the model refused to go on", 1)
            case "max_tokens":
                self._note(turn, GO_ON)
                return None
            case "pause_turn":
                return None
        return Outcome("done", "the agent ended the run", 0)

    def _answer(self, call: Call) -> None:
        """Do what the model asked for, once, and write down what came of it."""
        block, op = call.block, call.op(self.plan.run_id)
        if call.malformed:
            answer = text(call.malformed, is_error=True)
        else:
            answer = self.stop.wait_for(
                lambda: self.tools.call(block["name"], block["input"], op), self._end
            )
        self._write(call, op, answer)

    def _write(self, call: Call, op: str, answer: Answer) -> None:
        journal = self.record.journal
        self._say(
            "tool_result",
            turn=call.turn,
            tool_use_id=call.block["id"],
            op=op,
            tool=call.block["name"],
            content=answer.content,
            is_error=answer.is_error,
            journal={"lines": journal.lines, "head": journal.head},
        )

    def _bound(self) -> Outcome | None:
        """The bound that was reached; near one the agent is told, once for each."""
        used = Used(
            self.conversation.turns,
            self.conversation.tokens,
            self.conversation.cost_usd,
            self._spent_s + time.monotonic() - self._begun,
        )
        for bound in bounds(self.plan.experiment.agent, self.plan.experiment.sandbox.timeout, used):
            if bound.reached:
                return _outcome(bound)
            if bound.near and bound.name not in self.conversation.notices:
                self._note(self.conversation.turns, notice(bound), bound.name)
        return None

    def _note(self, turn: int, words: str, about: str = "") -> None:
        content = [{"type": "text", "text": words}]
        self._say("message", turn=turn, role="user", content=content, notice=about)

    def _say(self, type: str, **fields: Any) -> None:  # noqa: A002
        self.record.say(type, **fields)
        self.conversation.apply({"type": type, **fields})


def _outcome(bound: Bound) -> Outcome:
    if bound.name == "time":
        return Outcome("timeout", f"the run's time was over: {bound.words}", 124)
    return Outcome("bound", f"a bound was reached: {bound.words}", 4, bound.name)
