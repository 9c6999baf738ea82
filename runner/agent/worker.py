"""One attempt at a run: connect to the sandbox, converse, collect, end."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Iterator

from runner import locks
from runner.agent.conversation import Conversation
from runner.agent.loop import Loop, Outcome, Stop, Stopped
from runner.agent.options import AgentOptions
from runner.agent.providers import Provider
from runner.agent.puller import Puller
from runner.agent.scoring import score
from runner.agent.tools import IMAGES, Toolbox
from runner.errors import InfrastructureError, RunnerError
from runner.masking import Mask
from runner.phases import as_record, fold_phases, read_phases
from runner.plan import RunPlan
from runner.record import Record, read_lines
from runner.record.times import spent_s
from runner.session import Endpoint, Session

INTERRUPT_S = 10.0
OWN_ENDS = frozenset({"done", "failed", "bound", "timeout", "cancelled"})
"""States after which the sandbox is not needed any more."""


def work(options: AgentOptions, attempt: int, reason: str) -> int:
    """Drive the run to its end; returns its exit status, which stands in the record too."""
    plan = RunPlan.model_validate(Record.open(options.record).state().plan)
    key = os.environ.pop(plan.experiment.agent.llm_secret or "", "")
    record = Record.open(options.record, write=True, mask=Mask([key]))
    stop = _stop_on_sigterm(options)
    record.say("attempt", attempt=attempt, host=platform.node(), pid=os.getpid(), reason=reason)
    session = Session(Endpoint(options.url, options.token_file.read_text().strip()))
    puller: Puller | None = None
    try:
        provider = provider_of(plan, record, key)
        lines = [line for line, _ in read_lines(options.record / "transcript.jsonl")]
        left_s = plan.experiment.sandbox.timeout - spent_s(lines)
        conversation = Conversation()
        for line in lines:
            conversation.apply(line)
        _connect(session, plan, record, options, stop)
        puller = Puller(Session(session.endpoint), record)
        puller.start()
        mode = plan.experiment.sandbox.execution_mode
        tools = Toolbox(session, mode, IMAGES - conversation.images)
        outcome = Loop(plan, record, conversation, provider, tools, stop, left_s).run()
    except Stopped as stopped:
        outcome = stopped.outcome
    except RunnerError as error:
        outcome = Outcome("failed", str(error), error.exit_status)
    return _end(outcome, plan, record, session, puller)


def provider_of(plan: RunPlan, record: Record, key: str) -> Provider:
    """Who answers in this run. The key is used, never kept."""
    agent = plan.experiment.agent
    if agent.provider == "scripted":
        from runner.agent.providers.scripted import Scripted

        return Scripted(json.loads(record.input(plan.script or "")))
    from runner.agent.providers.anthropic import Anthropic

    return Anthropic(agent.model or "", key, base_url=agent.base_url)


def _stop_on_sigterm(options: AgentOptions) -> Stop:
    stop = Stop()

    def end(*_: object) -> None:
        if options.cancel.exists():
            stop.outcome = Outcome("cancelled", options.cancel.read_text(), 130)
        else:
            stop.outcome = Outcome("interrupted", "the agent was told to leave (SIGTERM)", 143)

    signal.signal(signal.SIGTERM, end)
    return stop


def _connect(
    session: Session, plan: RunPlan, record: Record, options: AgentOptions, stop: Stop
) -> None:
    """Wait for the sandbox, saying what for; write down who it is."""
    record.say("state", state="preparing", reason="")
    starting = False

    def check() -> None:
        nonlocal starting
        if stop.outcome is not None:
            raise Stopped(stop.outcome)
        phases = read_phases(options.phases) if options.phases else []
        if phases and phases[-1].failure:
            raise InfrastructureError(f"{phases[-1].name} failed: {phases[-1].failure}")
        if options.sandbox_lock and not locks.is_held(options.sandbox_lock):
            raise InfrastructureError(
                "the sandbox's process ended before it was ready", hint="see logs/sandbox.log"
            )
        if not starting and phases and phases[-1].ended and phases[-1].name == "installing":
            starting = True
            record.say("state", state="starting", reason="")

    info = session.connect(plan.prepare_deadline_s + plan.start_deadline_s, check)
    record.say(
        "sandbox",
        boot=info["boot"],
        kernel=info["kernel"],
        phases=as_record(fold_phases(info["phases"])),
        versions=info["versions"],
        python=info["environment"].get("python", plan.python),
        packages=info["environment"].get("packages", []),
    )
    record.say("state", state="running", reason="")


def _end(
    outcome: Outcome, plan: RunPlan, record: Record, session: Session, puller: Puller | None
) -> int:
    """Collect what was made, score it, write the end, and let the sandbox go."""
    troubles = []
    if puller is not None:
        record.say("state", state="ending", reason=outcome.reason)
        try:
            _interrupt(session)
            puller.finish()
        except RunnerError as error:
            troubles.append(f"not everything was collected: {error.message}")
    if plan.score and outcome.state in OWN_ENDS - {"cancelled"} and puller is not None:
        record.say("score", **score(record, plan.score))
    if outcome.state in OWN_ENDS:
        with contextlib.suppress(RunnerError):
            Session(session.endpoint, reconnect_s=0.0).shutdown()
    record.say(
        "end",
        state=outcome.state,
        reason="; ".join([outcome.reason, *troubles]),
        bound=outcome.bound,
        exit_status=outcome.exit_status,
        journal={"lines": record.journal.lines, "head": record.journal.head},
    )
    record.close()
    return outcome.exit_status


def _interrupt(session: Session) -> None:
    """Stop whatever still runs, and wait a little for its end."""
    end = time.monotonic() + INTERRUPT_S
    for op in _running(session):
        session.interrupt(op, timeout_s=max(0.0, end - time.monotonic()))


def _running(session: Session) -> Iterator[str]:
    yield from session.info()["running"]
