"""run_agent: a model works in a session, and what it says is told as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

from runner import secrets
from runner.agent.chat import Chat, ChatLine
from runner.agent.conversation import Conversation
from runner.agent.loop import Loop
from runner.agent.prompt import system_prompt, tools_prompt
from runner.agent.providers import Provider
from runner.agent.stop import Outcome, Stop
from runner.agent.tools import Others, Toolbox
from runner.agent.worker import PULLER_RECONNECT_S
from runner.api.driven import DrivenRun, chosen, failed
from runner.api.foreign import McpTools, over_http
from runner.api.foreign_stdio import in_sandbox
from runner.api.served import ServedTools
from runner.api.sessions import NotebookSession, Place, place_of
from runner.api.terminal import attached
from runner.config.experiment import AgentConfig
from runner.config.explain import config_error
from runner.errors import RunnerError, UsageError
from runner.plan import RunPlan
from runner.session import Session
from runner.submission import check_price

LEFT = Outcome("cancelled", "the script stopped listening to the agent", 130)
_ALIASES = {"claude": "anthropic"}


@dataclass(frozen=True)
class Message:
    """What was said: `role` is user, assistant or tool, `content` blocks of the Messages API."""

    role: str
    content: tuple[Mapping[str, Any], ...]
    turn: int
    cost_usd: float | None = None
    tool: str = ""
    is_error: bool = False

    @property
    def text(self) -> str:
        """All text of it."""
        return "\n".join(str(block["text"]) for block in self.content if block["type"] == "text")


class Agent(TypedDict, total=False):
    """Who works: the keys of `[agent]`, of which None is as one that is left out."""

    provider: str
    model: str | None
    base_url: str | None
    llm_secret: str | None
    script: Path | str | None
    max_turns: int | None
    max_tokens: int | None
    max_cost_usd: float | None


async def run_agent(
    prompt: str,
    mcp_config: Mapping[str, Any],
    **agent: Unpack[Agent],
) -> AsyncIterator[Message]:
    """Have a model work on `prompt` with the tools of a session until it ends, or a bound does.

    The keywords are those of `[agent]` in an experiment file, as `max_turns=20`;
    `provider="claude"` is the same as "anthropic". Every message is in the run's record before
    it is told here. Whoever stops listening (`break`, a cancelled task) stops the model and the
    cell. How it ended is how the run ends, unless the script raises. Raises ConfigError and
    UsageError before the model is asked, and RunnerError where the provider or the sandbox gives
    up.
    """
    place = place_of(mcp_config)
    async with aclosing(_messages(prompt, place, _agent(agent), Chat())) as messages:
        async for message in messages:
            yield message


async def run_agent_interactive(
    prompt: str,
    mcp_config: Mapping[str, Any],
    *,
    user_message: str = "",
    **agent: Unpack[Agent],
) -> None:
    """The same in a chat on this terminal, until whoever types leaves it or a bound ends it.

    It is `runner attach --chat`, for this run: ESC stops the model and its cell at once, Ctrl-D
    leaves, and what is typed is in the transcript. Lines of a pipe are told one after the other.
    `user_message` is added to the prompt.
    """
    place, chat = place_of(mcp_config), Chat()
    chat.join("terminal")  # which takes a moment to come
    task = "\n\n".join(filter(None, (prompt, user_message)))
    async with aclosing(_messages(task, place, _agent(agent), chat)) as messages:
        with attached(place.driven, lambda: chat.leave("terminal")):
            async for _ in messages:
                pass


async def _messages(
    prompt: str, place: Place, agent: AgentConfig, chat: Chat
) -> AsyncGenerator[Message, None]:
    driven = place.driven
    own = driven.answering
    plan = _plan(driven, agent, place.session, prompt)
    answering = _provider(agent, driven)
    connecting = {
        name: in_sandbox(name, entry, driven) if "command" in entry else over_http(name, entry)
        for name, entry in place.others.items()
    }
    for entry in place.others.values():
        for value in entry.get("headers", {}).values():
            driven.use_key(str(value).rpartition(" ")[2])
    if not driven.talking.acquire(blocking=False):
        raise UsageError("an agent works in this sandbox: wait for its end, or start another one")
    loop, here = asyncio.get_running_loop(), asyncio.Queue[Message | None]()
    stop = driven.stop = Stop()

    def tell(message: Message | None) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody listens
            loop.call_soon_threadsafe(here.put_nowait, message)

    def work() -> None:
        try:
            driven.outcome = _converse(
                driven, own, plan, place, connecting, answering, stop, tell, chat
            )
        except Exception as error:
            driven.outcome = failed(error, "the agent gave up")
            raise
        finally:
            driven.talking.release()
            tell(None)

    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while (message := await here.get()) is not None:
            yield message
        await working
    finally:
        if not working.done():
            stop.outcome = stop.outcome or LEFT
            with suppress(RunnerError):
                await asyncio.shield(working)


def _converse(
    driven: DrivenRun,
    own: Session,
    plan: RunPlan,
    place: Place,
    connecting: Mapping[str, Callable[[], Any]],
    provider: Provider,
    stop: Stop,
    tell: Callable[[Message], None],
    chat: Chat,
) -> Outcome:
    def told(type: str, line: Mapping[str, Any]) -> None:  # noqa: A002
        if message := _message(type, line):
            tell(message)

    session = place.session
    driven.record.say("conversation", agent=plan.experiment.agent.model_dump(mode="json"))
    with ExitStack() as connected:
        others: list[Others] = [ServedTools(served) for served in place.served]
        for name, connect in connecting.items():
            others.append(connected.enter_context(McpTools(name, connect)))
        loop = Loop(
            plan,
            driven.record,
            Conversation(),
            provider,
            Toolbox(own, session.mode if session else None, others=others),
            stop,
            driven.left_s,
            system_prompt(plan, session.workspace.facts()) if session else tools_prompt(plan),
            catch_up=driven.catch_up,
            tell=told,
            chat=chat,
        )
        with ChatLine(driven.beside(PULLER_RECONNECT_S), chat, stays=True):
            outcome = loop.run()
    if outcome.state == "cancelled":
        for op in own.info()["running"]:
            if op.startswith(plan.run_id):
                own.interrupt(op)
    return outcome


def _message(type: str, line: Mapping[str, Any]) -> Message | None:  # noqa: A002
    if type == "message":
        cost = line.get("cost_usd")
        return Message(line["role"], tuple(line["content"]), line["turn"], cost_usd=cost)
    if type == "tool_result":
        return Message(
            "tool",
            tuple(line["content"]),
            line["turn"],
            tool=line["tool"],
            is_error=line["is_error"],
        )
    return None


def _agent(asked: Agent) -> AgentConfig:
    provider, script = asked.get("provider", "anthropic"), asked.get("script")
    given = {
        **asked,
        "provider": _ALIASES.get(provider, provider),
        "script": str(script) if script else None,
    }
    if given.get("command") or given["provider"] == "none":
        raise UsageError(
            "run_agent: `command` is for experiment files",
            hint="a script starts what it likes itself: `session.mcp_config` has the tools",
        )
    try:
        return AgentConfig.model_validate(chosen(**given), context={"folder": Path.cwd()})
    except ValidationError as error:
        raise config_error(error, AgentConfig, "run_agent", {}) from error


def _plan(
    driven: DrivenRun, agent: AgentConfig, session: NotebookSession | None, prompt: str
) -> RunPlan:
    """The run's plan as the loop of this conversation is to see it."""
    plan = driven.plan
    mode = {"execution_mode": session.mode} if session else {}
    sandbox = plan.experiment.sandbox.model_copy(update=mode)
    experiment = plan.experiment.model_copy(
        update={"agent": agent, "task": prompt, "sandbox": sandbox}
    )
    check_price(experiment, driven.settings, "run_agent")
    price = driven.settings.price(agent.model) if agent.model else None
    # Operations have ids by the run's and the turn, and each conversation has turns of its own.
    driven.conversations += 1
    run_id = f"{plan.run_id}-{driven.conversations}"
    return plan.model_copy(update={"experiment": experiment, "price": price, "run_id": run_id})


def _provider(agent: AgentConfig, driven: DrivenRun) -> Provider:
    if agent.provider == "scripted":
        from runner.agent.providers import scripted

        return scripted.Scripted(scripted.load(Path(str(agent.script))))
    from runner.agent.providers.anthropic import Anthropic

    name = agent.llm_secret or ""
    folders = [Path(sys.argv[0]).parent.absolute(), Path.cwd()]
    key = secrets.look_up([name], folders)[name]
    driven.use_key(key)
    return Anthropic(agent.model or "", key, base_url=agent.base_url)
