"""Turn after turn: what the model says is written down before it is done."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from runner.agent import providers
from runner.agent.bounds import NEAR, SHORTEST_WAIT_S, Bound, Used, bounds, notice
from runner.agent.chat import Chat
from runner.agent.compact import compact
from runner.agent.conversation import Call, Conversation, sendable
from runner.agent.masked import masked
from runner.agent.providers import Provider, Reply
from runner.agent.stop import Outcome, Stop, Stopped
from runner.agent.tools import Answer, Toolbox, text
from runner.errors import SandboxUnreachable
from runner.plan import RunPlan
from runner.record import Record

KEEP_LAST = 8
"""Messages whose tool results are never shortened."""
CONTEXT_CHARS = 400_000
"""About 100,000 tokens: beyond it old results are shortened. Half of it, and so on, each time
that the model says its context is full."""
STOP_S = 1.0
"""How long a reply that is stopped may take to say how far it has got."""
LOOK_S = 0.2
"""How often it is looked whether the run is stopped while the agent waits for words."""
WAITS = "the agent waits for what `attach --chat` tells it"
Said = dict[str, Any]

CUT = "[runner] Your last message was cut off at its length. Go on, in smaller pieces."
EMPTY = (
    "[runner] Your last message was empty. Go on; or, if all is done, say what you found: that "
    "ends the run."
)
INTERRUPTED = "[runner] Somebody who watches has interrupted you."
NOT_RUN = "not run: somebody who watches interrupted"
GIVEN_UP = "interrupted by somebody who watches; what became of it is not known"
REPLACED = (
    "[runner] Another sandbox answers now: all variables and running processes are gone. Look at "
    "what is still there (files, notebook) before you go on."
)


class Loop:
    """Drives one run from wherever its transcript stands to its end.

    `left_s` is what is left of the run's time. `catch_up` is called before a
    tool's result is written down, so that the record has the journal up to it.
    `tell` is told of every line that was written. `system` is the system prompt. `chat` is what
    people say meanwhile.
    """

    def __init__(
        self,
        plan: RunPlan,
        record: Record,
        conversation: Conversation,
        provider: Provider,
        tools: Toolbox,
        stop: Stop,
        left_s: float,
        system: str,
        catch_up: Callable[[], None] = lambda: None,
        tell: Callable[[str, Said], None] = lambda _type, _line: None,
        chat: Chat | None = None,
    ) -> None:
        self.plan, self.record, self.conversation = plan, record, conversation
        self.provider, self.tools, self.stop = provider, tools, stop
        self._time_s = plan.experiment.sandbox.timeout
        self._end = time.monotonic() + left_s
        self._system, self._catch_up, self._tell = system, catch_up, tell
        self._retries: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self._chat = chat or Chat()
        self._held = False
        """Whether somebody has interrupted, and is to say how to go on."""
        self._give_up_at = math.inf

    def run(self) -> Outcome:
        """Converse until the model ends, or a bound or somebody ends it.

        Raises RunnerError when the provider or the sandbox gives up.
        """
        self.conversation.apply({"type": "sandbox", "boot": self.tools.session.boot})
        if not self.conversation.messages:
            self._note(0, self.plan.experiment.task)
        try:
            while True:
                for call in list(self.conversation.calls):
                    self._answer(call)
                self._hear()
                self._meet()
                outcome = self._ended()
                if outcome and outcome.state == "done" and self._words_come():
                    continue
                if outcome := outcome or self._bound():
                    return outcome
                self._turn()
        except Stopped as stopped:
            return stopped.outcome

    # -- what the model says ---------------------------------------------------------------

    def _turn(self) -> None:
        """One reply of the model."""
        limit = CONTEXT_CHARS >> self.conversation.overflows
        messages = compact(self.conversation.messages, keep_last=KEEP_LAST, limit_chars=limit)

        stopped = threading.Event()

        def ask() -> tuple[Reply, Said, Said]:
            reply = self.provider.reply(
                system=self._system,
                messages=messages,
                tools=self.tools.definitions(),
                on_text=lambda _: None,
                on_retry=lambda reason, delay_s: self._retries.put((reason, delay_s)),
                stopped=stopped.is_set,
            )
            content, malformed = sendable(reply, self.conversation.ids)
            said = {"content": content, "malformed": malformed}
            return reply, said, self._masked(said)

        def meanwhile() -> None:
            self._write_retries()
            self._heed(stopped, STOP_S)

        try:
            reply, said, shown = self.stop.wait_for(ask, self._end, meanwhile)
        except _Interrupted:
            self._held = True
            return
        price, spoke = self.plan.price, any(reply.usage.values())
        message = {
            "turn": self.conversation.turns + 1,
            "role": "assistant",
            "model": reply.model,
            "stop_reason": reply.stop_reason,
            "usage": dict(reply.usage),
            "cost_usd": price.cost(reply.usage) if price else None if spoke else 0.0,
        }
        self._write("message", **message, **shown)
        self.conversation.apply({"type": "message", **message, **said})
        self._held = reply.stop_reason == providers.STOPPED

    def _masked(self, said: Said) -> Said:
        """As it may be written; from a sandbox that stays away, which ends the run, as it is."""
        try:
            return masked(said, self.plan, self.tools.session)
        except SandboxUnreachable:
            return said

    def _write_retries(self) -> None:
        while not self._retries.empty():
            reason, delay_s = self._retries.get()
            self._say("retry", reason=reason, delay_s=delay_s)

    def _ended(self) -> Outcome | None:
        """The outcome, if the last word is the model's and it ends the run."""
        conversation = self.conversation
        match conversation.stop_reason:
            case "" | "pause_turn":
                return None
            case "refusal":
                return Outcome("failed", "the model refused to go on", 1)
            case providers.STOPPED:  # and the agent was killed before it said so
                self._note(conversation.turns, INTERRUPTED)
                return None
            case "max_tokens" | "model_context_window_exceeded":
                self._note(conversation.turns, CUT)
                return None
        if conversation.empty == 1:
            self._note(conversation.turns, EMPTY)
            return None
        if conversation.empty and len(conversation.messages) == 1:
            return Outcome("failed", "the model answers with empty messages", 1)
        return Outcome("done", "the agent ended the run", 0)

    # -- what the model asks for -----------------------------------------------------------

    def _answer(self, call: Call) -> None:
        """Do what the model asked for, once, and write down what came of it."""
        block, op = call.block, call.op(self.plan.run_id)
        if call.malformed:
            answer = text(call.malformed, is_error=True)
        elif self._held:
            answer = text(NOT_RUN, is_error=True)
        else:
            answer = self._called(call, op)
        self._catch_up()
        self._say(
            "tool_result",
            turn=call.turn,
            tool_use_id=block["id"],
            op=op,
            tool=block["name"],
            content=answer.content,
            is_error=answer.is_error,
            journal=self.record.journal_mark(),
        )

    def _called(self, call: Call, op: str) -> Answer:
        """What came of the call; in the sandbox, whoever interrupts has it end there."""
        block, longest_s, stopped = call.block, self._longest_wait_s(), threading.Event()
        own = not block["name"].startswith("mcp__")
        try:
            answer = self.stop.wait_for(
                lambda: self.tools.call(
                    block["name"], block["input"], op, boot=call.boot, longest_s=longest_s
                ),
                self._end,
                lambda: self._heed(stopped, math.inf if own else 0.0),
            )
        except _Interrupted:
            answer = text(GIVEN_UP, is_error=True)
        self._held = self._held or stopped.is_set()
        return answer

    def _longest_wait_s(self) -> float:
        """How long a tool may wait: the agent must hear of the time before it is over."""
        left = self._end - time.monotonic()
        if Bound("time", 0, self._time_s).key not in self.conversation.notices:
            left -= self._time_s * (1 - NEAR)
        return max(left, SHORTEST_WAIT_S)

    def _meet(self) -> None:
        """Tell the model, once, where another sandbox answers than the one it knows."""
        boot, conversation = self.tools.session.boot, self.conversation
        if boot != conversation.boot:
            info = self.tools.session.info()
            self._say(
                "sandbox",
                boot=boot,
                kernel=info["kernel"],
                phases=[],
                versions=info["versions"],
                **info["environment"],
            )
        about = f"sandbox {boot}"
        if conversation.asked not in ("", boot) and about not in conversation.notices:
            self._note(conversation.turns, REPLACED, about)

    # -- what people say -------------------------------------------------------------------

    def _heed(self, stopped: threading.Event, patience_s: float) -> None:
        """Have what the agent is at stop, if somebody wants that.

        Raises _Interrupted where it has not within `patience_s` seconds.
        """
        if self._chat.stopped and not stopped.is_set():
            self._chat.go_on()
            stopped.set()
            self._give_up_at = time.monotonic() + patience_s
        if stopped.is_set() and time.monotonic() >= self._give_up_at:
            raise _Interrupted

    def _hear(self) -> None:
        """Write down what was said, once; whoever has interrupted is waited for."""
        if self._held:
            self._held = False
            self._note(self.conversation.turns, INTERRUPTED)
            self._words_come()
        for said in self._chat.take():
            about = f"chat {said.id}"
            if about not in self.conversation.notices:
                shown = self._masked({"words": said.text})["words"]
                self._note(self.conversation.turns, shown, about, by=said.by)
            said.heard()

    def _words_come(self) -> bool:
        """Wait for words while somebody is there; whether there are any."""
        if not self._chat.attended:
            return False
        self._say("state", state="running", reason=WAITS)
        while not self._chat.wait(LOOK_S):
            self._chat.go_on()  # nothing is there to be stopped
            if self.stop.outcome is not None:
                raise Stopped(self.stop.outcome)
            if time.monotonic() > self._end:
                return False
        self._say("state", state="running", reason="")
        return self._chat.spoken

    # -- bounds ----------------------------------------------------------------------------

    def _bound(self) -> Outcome | None:
        """The bound that was reached; near one the agent is told, once for each."""
        conversation = self.conversation
        used = Used(
            conversation.turns,
            conversation.tokens,
            conversation.cost_usd,
            self._time_s - (self._end - time.monotonic()),
            conversation.turn_tokens,
            conversation.turn_cost_usd,
        )
        for bound in bounds(self.plan.experiment.agent, self._time_s, used):
            if bound.reached:
                return bound.outcome
            if bound.near and bound.key not in conversation.notices:
                self._note(conversation.turns, notice(bound), bound.key)
        return None

    # -- writing down ----------------------------------------------------------------------

    def _note(self, turn: int, words: str, about: str = "", **more: str) -> None:
        content = [{"type": "text", "text": words}]
        self._say("message", turn=turn, role="user", content=content, notice=about, **more)

    def _say(self, type: str, **fields: Any) -> None:  # noqa: A002
        self._write(type, **fields)
        self.conversation.apply({"type": type, **fields})

    def _write(self, type: str, **fields: Any) -> None:  # noqa: A002
        self.record.say(type, **fields)
        self._tell(type, fields)


class _Interrupted(Exception):
    """Somebody has interrupted what does not end by itself."""
