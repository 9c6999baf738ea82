"""DrivenRun: a run that a script drives, with a record as any other run has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runner import preload
from runner.agent.puller import Puller
from runner.agent.stop import Outcome, Stop, Stopped
from runner.agent.worker import interrupt_all, load, meet
from runner.backends import recorded_logs
from runner.backends.base import Backend, Handle
from runner.backends.driven import told
from runner.backends.starting import READY_S, Starting
from runner.errors import InfrastructureError, RunnerError, UsageError
from runner.masking import Mask
from runner.record import Record, read_lines
from runner.record.times import spent_s
from runner.session import RECONNECT_S, Endpoint, Session
from runner.settings import Settings
from runner.submission import Submission, start

LOOK_S = 0.2
"""How often it is looked whether the run was cancelled."""
AGENT_S = 20.0
"""How long an agent that works when the sandbox is ended may take to leave."""
DONE = Outcome("done", "the script ended the sandbox", 0)
STOPPED = Outcome("cancelled", "the script ended the sandbox while its agent worked", 130)


class DrivenRun:
    """One sandbox with its record, of which this process is the writer.

    Made by `begin`; `end` has to be called, whatever happens.
    """

    def __init__(
        self, submission: Submission, settings: Settings, backend: Backend, handle: Handle
    ) -> None:
        plan = submission.plan
        self.plan, self.settings, self._backend, self._handle = plan, settings, backend, handle
        self.talking = threading.Lock()
        """Held while an agent works: the record tells of one conversation after the other."""
        self.stop = Stop()
        """What ends the agent that works."""
        self.outcome = DONE
        """How the run ends, unless the script raises."""
        self._keys = list(submission.secrets.values())
        self._mask = Mask(self._keys)
        path = Path(settings.runs).absolute() / plan.run_id
        self._lock = Record.open(path).take_lock()
        self.record = Record.open(path, write=True, mask=self._masked)
        said = [line for line, _ in read_lines(path / "transcript.jsonl")]
        self.conversations = sum(line["type"] == "conversation" for line in said)
        self._spent_s = spent_s(said)
        self._open = contextlib.ExitStack()
        self._guard = threading.RLock()
        self._puller: Puller | None = None
        self.over = False
        """Whether it has ended, or is about to."""
        self.session: Session
        self._endpoint: Endpoint
        self._ready_at = time.monotonic()

    @classmethod
    def begin(
        cls, submission: Submission, settings: Settings, backend: Backend, script: str
    ) -> DrivenRun:
        """Start the sandbox and wait until it is ready.

        Raises RunnerError where it does not come up: then it is gone, and the record says why.
        """
        handle = start(submission, settings, backend)
        try:
            run = cls(submission, settings, backend, handle)
        except BaseException:
            backend.delete(handle)
            raise
        try:
            run._connect(script)
        except Stopped as stopped:
            run.end(stopped.outcome)
            words = f"{stopped.outcome.reason} while the sandbox started"
            raise InfrastructureError(words) from None
        except BaseException as error:
            run.end(failed(error, "the sandbox was not ready"))
            raise
        return run

    @classmethod
    def take_over(
        cls, submission: Submission, settings: Settings, backend: Backend, script: str
    ) -> DrivenRun:
        """Go on with a run whose script is gone and whose sandbox lives; it has its record again.

        Raises RecordError while a script drives it. Where its sandbox does not answer it stays as
        it was.
        """
        run = cls(submission, settings, backend, backend.attach(submission.plan.run_id))
        try:
            run._connect(script)
        except BaseException:
            run.over = True
            run._open.close()
            run.record.close()
            os.close(run._lock)
            raise
        return run

    @property
    def path(self) -> Path:
        """The directory of its record."""
        return self.record.path

    def use_key(self, value: str) -> None:
        """Mask this value in what is written from now on."""
        self._keys.append(value)
        self._mask = Mask(self._keys)

    def catch_up(self) -> None:
        """Have the record hold the journal up to now."""
        if self._puller is not None:
            self._puller.catch_up()

    @property
    def left_s(self) -> float:
        """Seconds that are left of the sandbox's time."""
        return self.plan.experiment.sandbox.timeout - (time.monotonic() - self._ready_at)

    def end(self, outcome: Outcome | None = None) -> None:
        """Collect what was made, write the end, end the sandbox.

        An agent that works is stopped first. A second call waits for the first one's end.
        """
        with self._guard:
            if self.over:
                return
            self.over = True
            self.stop.outcome = self.stop.outcome or STOPPED
            troubles: list[str] = []
            with contextlib.ExitStack() as after:  # the last one first, and each whatever happens
                after.callback(self._keep)
                after.callback(self._backend.delete, self._handle)
                after.callback(self._keep_logs)
                after.callback(os.close, self._lock)
                after.callback(self.record.close)
                after.callback(self._open.close)
                self.talking.acquire(timeout=AGENT_S)
                outcome = outcome or self.outcome  # which the agent has said as it left
                if self._puller is not None:
                    self.record.say("state", state="ending", reason=outcome.reason)
                    try:
                        troubles = self._collect(self._puller)
                    except RunnerError as error:
                        troubles = [f"not everything was collected: {error.message}"]
                self.record.say(
                    "end",
                    state=outcome.state,
                    reason="; ".join([outcome.reason, *troubles]),
                    bound=outcome.bound,
                    exit_status=outcome.exit_status,
                    journal=self.record.journal_mark(),
                )

    def _collect(self, puller: Puller) -> list[str]:
        """What is left in the sandbox; in words what could not be kept."""
        if not self._backend.status(self._handle).sandbox_alive:
            raise InfrastructureError("the sandbox is gone")
        self.session.boot = self.session.info()["boot"]
        interrupt_all(self.session)
        return [f"not collected: {words}" for words in puller.finish()]

    def _keep_logs(self) -> None:
        """Put what the sandbox's processes printed into the record."""
        with contextlib.suppress(RunnerError, OSError):
            lines = self._backend.logs(self._handle, follow=False)
            recorded_logs.write(self.record.path / "logs", lines, self._masked)

    def _keep(self) -> None:
        """Put the record where others look; the sandbox is not held for that."""
        try:
            self._backend.keep(self._handle)
        except RunnerError as error:
            say(f"the record stays in {self.record.path}: {error}")

    def _heed_cancel(self) -> None:
        while not self.over:
            if words := told(self.record):
                self.end(Outcome("cancelled", words, 130))
            time.sleep(LOOK_S)

    def _connect(self, script: str) -> None:
        self.record.say(
            "attempt",
            attempt=self.record.state().attempts + 1,
            reason=f"driven by {script}",
            host=platform.node(),
            pid=os.getpid(),
        )
        self.record.say("state", state="preparing", reason="")

        def heed_cancel() -> None:
            if words := told(self.record):
                raise Stopped(Outcome("cancelled", words, 130))

        self._endpoint = self._open.enter_context(self._backend.endpoint(self._handle))
        self.session = self._open.enter_context(Session(self._endpoint))
        deadline_s = self.plan.prepare_deadline_s + self.plan.start_deadline_s + READY_S
        starting = Starting(self._backend, self._handle, say)
        info = starting.connect(self.session, deadline_s, heed_cancel)
        self._ready_at = time.monotonic() - self._spent_s
        meet(self.record, self.plan, info)
        self._puller = Puller(self.beside(READY_S), self.record)
        self._puller.start()
        if info["preload"]:
            say(f"loading {preload.names(self.plan)}")
        load(self.session, self.record, self.plan, info, heed_cancel)
        threading.Thread(target=self._heed_cancel, name="cancel", daemon=True).start()

    @property
    def answering(self) -> Session:
        """The client of its server; UsageError when it has ended."""
        if self.over:
            raise UsageError(
                f"the sandbox of {self.plan.run_id} has ended", hint="start another Sandbox"
            )
        return self.session

    def beside(self, reconnect_s: float = RECONNECT_S) -> Session:
        """Another session, for what goes on beside the script; closed at the end."""
        session = Session(self._endpoint, reconnect_s=reconnect_s)
        session.boot = self.session.boot
        return self._open.enter_context(session)

    def _masked(self, text: str) -> str:
        return self._mask(text)


def say(words: str) -> None:
    """What a sandbox waits for, beside what the script prints."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201


def script_name() -> str:
    """What is run: the script's file, or how else Python was started."""
    return Path(sys.argv[0]).name or "an interactive Python"


def outcome_of(error: BaseException | None) -> Outcome | None:
    """How a run ends whose script raises this; None where it raises nothing, or leaves in peace."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    return failed(error, "the script raised")


def failed(error: BaseException, words: str) -> Outcome:
    """The end of a run by this error; `words` say where it came up."""
    # Under asyncio Ctrl-C cancels the main task first.
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return Outcome(
            "cancelled", "the script was interrupted (Ctrl-C), or its task cancelled", 130
        )
    status = error.exit_status if isinstance(error, RunnerError) else 1
    said = str(error) if isinstance(error, RunnerError) else f"{type(error).__name__}: {error}"
    return Outcome("failed", f"{words}: {said}", status)


def chosen(**given: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in given.items() if value is not None}
