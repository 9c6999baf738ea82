"""One attempt at a run: connect to the sandbox, converse, collect, end."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from runner import locks, preload
from runner.agent import command
from runner.agent.chat import Chat, ChatLine
from runner.agent.conversation import Conversation
from runner.agent.gpus import GpuWatch
from runner.agent.loading import wait_for_models
from runner.agent.loop import Loop
from runner.agent.options import AgentOptions
from runner.agent.prompt import system_prompt
from runner.agent.providers import Provider
from runner.agent.puller import Puller
from runner.agent.scoring import score
from runner.agent.stop import Outcome, Stop, Stopped
from runner.agent.story import ToldRecord
from runner.agent.tools import IMAGES, Toolbox
from runner.errors import InfrastructureError, RunnerError, SandboxUnreachable
from runner.masking import Mask
from runner.phases import as_record, fold_phases, read_phases
from runner.plain import open_plain
from runner.plan import RunPlan, plan_in_force
from runner.record import Record, read_lines, writer
from runner.record.times import spent_s
from runner.session import Endpoint, Session
from runner.signals import accept_sigterm

INTERRUPT_S = 10.0
"""How long what still runs at the end has to be interrupted."""
PULLER_RECONNECT_S = 5.0
LOOK_S = 0.5
"""How often the agent looks whether its sandbox is there."""
LAST_WORDS = 2000
"""Characters of the sandbox's log that an end by the sandbox is explained with."""
OWN_ENDS = frozenset({"done", "failed", "bound", "timeout", "cancelled"})
"""States after which the sandbox is not needed any more."""


def work(options: AgentOptions, attempt: int, reason: str) -> int:
    """Drive the run to its end; returns its exit status, which stands in the record too."""
    stop = _stop_on_sigterm(options)
    recorded = plan_in_force(_lines(options))
    plan = options.plan or recorded
    key = os.environ.pop(plan.experiment.agent.llm_secret or "", "")
    record = ToldRecord.open(options.record, write=True, mask=Mask([key]))
    changed = {"plan": plan.record()} if plan != recorded else {}
    host, pid = platform.node(), os.getpid()
    place = {"host": host, "pid": pid, **options.where}
    if pod := options.where.get("pod_uid"):
        writer.watch(options.record, pod, lambda: os._exit(writer.LEFT))
    record.say("attempt", attempt=attempt, reason=reason, **place, **changed)
    session = Session(Endpoint(options.url, options.token_file.read_text().strip()), alert=True)
    puller: Puller | None = None
    gpus: GpuWatch | None = None
    try:
        own = plan.experiment.agent.command is None
        provider = provider_of(plan, record, key) if own else None
        conversation = Conversation()
        for line in _lines(options):
            conversation.apply(line)
        info = _connect(session, plan, record, options, stop)
        _watch_sandbox(options, stop)
        quick = Session(session.endpoint, reconnect_s=PULLER_RECONNECT_S)
        puller = Puller(quick, record, stop_with(stop))
        puller.start()
        left_s = plan.experiment.sandbox.timeout - spent_s(_lines(options))
        end = time.monotonic() + left_s
        load(session, record, plan, info, lambda: stop.check(end))
        mode = plan.experiment.sandbox.execution_mode
        tools = Toolbox(session, mode, IMAGES - conversation.images)
        if plan.experiment.sandbox.gpus_held:
            gpus = _watch_gpus(session, record, tools, stop)
        chat, left_s = Chat(), end - time.monotonic()
        if provider is None:
            told = conversation.notices
            outcome = command.drive(plan, record, tools, stop, left_s, key, attempt, told)
        else:
            loop = Loop(
                plan,
                record,
                conversation,
                provider,
                tools,
                stop,
                left_s,
                system_prompt(plan),
                catch_up=puller.catch_up,
                chat=chat,
            )
            with ChatLine(Session(session.endpoint, reconnect_s=PULLER_RECONNECT_S), chat):
                outcome = loop.run()
    except Stopped as stopped:
        outcome = stopped.outcome
    except SandboxUnreachable as error:
        # One that was there and is gone; of one that never came, the error says enough.
        words = f"{error.message}{_last_words(options) if puller else ''}"
        outcome = Outcome("failed", words, error.exit_status)
    except RunnerError as error:
        outcome = Outcome("failed", str(error), error.exit_status)
    return _end(outcome, plan, record, session, puller, gpus, options, stop)


def provider_of(plan: RunPlan, record: Record, key: str) -> Provider:
    """Who answers in this run. The key is used, never kept."""
    agent = plan.experiment.agent
    if agent.provider == "scripted":
        from runner.agent.providers.scripted import Scripted

        return Scripted(json.loads(record.input(plan.script or "")))
    from runner.agent.providers.anthropic import Anthropic

    return Anthropic(agent.model or "", key, base_url=agent.base_url)


def _lines(options: AgentOptions) -> list[Mapping[str, Any]]:
    return [line for line, _ in read_lines(options.record / "transcript.jsonl")]


# -- what ends a run from outside ----------------------------------------------------------


def _stop_on_sigterm(options: AgentOptions) -> Stop:
    stop = Stop()

    def end(*_: object) -> None:
        if options.cancel.exists():
            stop.outcome = Outcome("cancelled", options.cancel.read_text(), 130)
        else:
            stop.outcome = Outcome("interrupted", "the agent was told to leave (SIGTERM)", 143)

    signal.signal(signal.SIGTERM, end)
    accept_sigterm()
    return stop


def stop_with(stop: Stop) -> Callable[[RunnerError], None]:
    """What ends the run with an error that came up beside the loop."""

    def end(error: RunnerError) -> None:
        stop.outcome = stop.outcome or Outcome("failed", str(error), error.exit_status)

    return end


def _watch_sandbox(options: AgentOptions, stop: Stop) -> None:
    """End the run as soon as its sandbox is gone, where the agent can see that."""

    def watch() -> None:
        while not _gone(options):
            time.sleep(LOOK_S)
        words = f"the sandbox ended{_last_words(options)}"
        stop_with(stop)(InfrastructureError(words))

    if options.sandbox_lock:
        threading.Thread(target=watch, name="sandbox", daemon=True).start()


def _watch_gpus(session: Session, record: Record, tools: Toolbox, stop: Stop) -> GpuWatch:
    """Have the run end when its GPUs are unused for too long, whatever it waits for."""

    def warn(warnings: list[str]) -> None:
        tools.warnings = warnings

    def end(outcome: Outcome) -> None:
        stop.outcome = stop.outcome or outcome

    watch = GpuWatch(Session(session.endpoint, reconnect_s=0.0), record, warn, end)
    watch.start()
    return watch


def _gone(options: AgentOptions) -> bool:
    return options.sandbox_lock is not None and not locks.is_held(options.sandbox_lock)


def _last_words(options: AgentOptions) -> str:
    """What the sandbox's processes printed at their end, with a colon before it."""
    if options.sandbox_log is None:
        return ""
    try:
        with open_plain(options.sandbox_log) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - LAST_WORDS, 0))
            log = file.read(LAST_WORDS)
    except OSError:
        return ""
    said = log.decode("utf-8", "replace").strip()
    return f": {said}" if said else ""


# -- the begin and the end -----------------------------------------------------------------


def _connect(
    session: Session, plan: RunPlan, record: Record, options: AgentOptions, stop: Stop
) -> dict[str, Any]:
    """Wait for the sandbox, saying what for; write down who it is; what it says of itself."""
    record.say("state", state="preparing", reason="")
    started: float | None = None

    def check() -> None:
        nonlocal started
        if stop.outcome is not None:
            raise Stopped(stop.outcome)
        phases = read_phases(options.phases) if options.phases else []
        if phases and phases[-1].failure:
            raise InfrastructureError(f"{phases[-1].name} failed: {phases[-1].failure}")
        if _gone(options):
            words = f"the sandbox's process ended before it was ready{_last_words(options)}"
            raise InfrastructureError(words, hint="logs/sandbox.log of the run has it all")
        installed = bool(phases and phases[-1].ended and phases[-1].name == "installing")
        if started is None and (options.prepared or installed):
            started = time.monotonic()
            record.say("state", state="starting", reason="")
        if started is not None and time.monotonic() > started + plan.start_deadline_s:
            raise InfrastructureError(
                f"the kernel was not ready {plan.start_deadline_s:g} s after the sandbox began to "
                f"start{_last_words(options)}",
                hint="raise `deadlines.start` in the settings",
            )

    info = session.connect(plan.prepare_deadline_s + plan.start_deadline_s, check)
    meet(record, plan, info)
    return info


def meet(record: Record, plan: RunPlan, info: Mapping[str, Any]) -> None:
    """Write down which sandbox is there, by what it says of itself, and that the run goes on."""
    record.say(
        "sandbox",
        boot=info["boot"],
        kernel=info["kernel"],
        phases=as_record(fold_phases(info["phases"])),
        versions=info["versions"],
        python=info["environment"].get("python", plan.python),
        packages=info["environment"].get("packages", []),
    )
    if not info["preload"]:
        record.say("state", state="running", reason="")


def load(
    session: Session,
    record: Record,
    plan: RunPlan,
    info: Mapping[str, Any],
    check: Callable[[], None],
) -> None:
    """Wait until the models are there that the sandbox loads; raises as `wait_for_models`."""
    if info["preload"]:
        record.say("state", state="starting", reason=f"loading {preload.names(plan)}")
        wait_for_models(session, plan, info, check)
        record.say("state", state="running", reason="")


def _end(
    outcome: Outcome,
    plan: RunPlan,
    record: Record,
    session: Session,
    puller: Puller | None,
    gpus: GpuWatch | None,
    options: AgentOptions,
    stop: Stop,
) -> int:
    """Collect what was made, score it, write the end, and let the sandbox go."""
    troubles = []
    if gpus is not None:
        gpus.finish()
    if puller is not None:
        record.say("state", state="ending", reason=outcome.reason)
        try:
            if _gone(options):
                raise InfrastructureError("the sandbox is gone")
            if outcome.state in OWN_ENDS:  # else whoever resumes it finds its cell running
                interrupt_all(session)
            troubles = [f"not collected: {words}" for words in puller.finish()]
        except RunnerError as error:
            troubles.append(f"not everything was collected: {error.message}")
    if plan.score and outcome.state in OWN_ENDS - {"cancelled"} and puller is not None:
        before = stop.outcome
        scored = score(record, plan.score, told_to_leave=lambda: stop.outcome is not before)
        record.say("score", **scored)
    if outcome.state in OWN_ENDS:
        _let_go(session, options)
    record.say(
        "end",
        state=outcome.state,
        reason="; ".join([outcome.reason, *troubles]),
        bound=outcome.bound,
        exit_status=outcome.exit_status,
        journal=record.journal_mark(),
    )
    record.close()
    return outcome.exit_status


def _let_go(session: Session, options: AgentOptions) -> None:
    if options.release:
        options.release.touch()
        return
    with contextlib.suppress(RunnerError):
        Session(session.endpoint, reconnect_s=0.0).shutdown()


def interrupt_all(session: Session) -> None:
    """Stop whatever still runs or waits to, so that the record has its end.

    What does not heed an interrupt, and what begins when that has ended, goes with its kernel.
    """
    end = time.monotonic() + INTERRUPT_S
    for op in session.info()["running"]:
        session.interrupt(op, timeout_s=max(0.0, end - time.monotonic()))
        # A new warning, which is what there is of a cell that does not heed it, ends each wait.
        while not session.wait(op, timeout_s=max(0.0, end - time.monotonic())).final:
            if time.monotonic() > end:
                break
    left = session.info()
    if left["running"] or left["queued"]:
        session.restart(timeout_s=INTERRUPT_S)
