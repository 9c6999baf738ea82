"""`runner.pod agent`: the main container of a run's pod; its exit status is the run's.

This process is the agent's supervisor. Around it: the record's lock, the copy to S3 where
records are kept there, the log, and the last words for the kubelet.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from runner import locks
from runner.agent.__main__ import supervise
from runner.agent.options import AgentOptions
from runner.errors import InfrastructureError, RunnerError
from runner.plain import open_plain
from runner.plan import RunPlan
from runner.pod import attempts, cancel, layout, send, step, termination, turns
from runner.pod.tee import Tee
from runner.pod.uploading import uploading
from runner.record import Record, read_lines, writer

OPTIONS = layout.TMP / "agent.json"
RELEASE = layout.TMP / "release"
SENDERS_S = 2.0
"""How long those who follow have to take the last lines; the container's end is theirs."""
LOG_BYTES = 64 << 20
"""Of each log of the sandbox's that are kept: it may write what it likes there."""
LOGS = (layout.SANDBOX_LOG, layout.INSTALL_LOG)


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Drive the run to its end, and leave the record complete; the run's exit status.

    143, never 0, for a pod that was told to leave before the run ended: else its Job
    would count as complete.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    locks.hold(layout.AGENT, read_only=True)  # until this process is gone
    status, trouble = InfrastructureError.exit_status, ""
    try:
        with uploading(layout.RECORD, leave), contextlib.ExitStack() as held:
            status, trouble = _logged(layout.RECORD, held)
    except RunnerError as error:
        step.say(str(error))
        trouble = error.message
        status = status or error.exit_status
    termination.write(termination.message(layout.RECORD, status, trouble))
    send.wait_for_senders(SENDERS_S)
    return status


def _logged(record: Path, held: contextlib.ExitStack) -> tuple[int, str]:
    """Drive the run, with a log of it in the record; its exit status, and what went wrong here.

    The record's lock is let go by `held`, when the logs are whole as well: whoever follows
    takes a free lock for the end of all that is written.
    """
    with Tee(record / "logs" / "agent.log") as tee:
        tee.start()
        try:
            return drive(record, held), ""
        except RunnerError as error:
            step.say(str(error))
            return error.exit_status, error.message
        except Exception as error:
            traceback.print_exception(error)
            return InfrastructureError.exit_status, f"{type(error).__name__}: {error}"
        finally:
            _keep_logs(record)


def drive(record: Path, held: contextlib.ExitStack) -> int:
    """Supervise the run, unless it is over already or must not go on."""
    plan = RunPlan.model_validate_json(layout.PLAN.read_bytes())
    last = os.environ.get(turns.AFTER)
    where = place(os.environ) | since(layout.PLAN)
    if pod := where.get("pod_uid"):
        writer.watch(record, pod, leave)
    held.callback(os.close, Record.open(record).take_lock(writer.LOCK_S))
    send.BEGUN.touch()
    cancel.expect(layout.CANCEL, cancel.PID)
    lines = (line for line, _ in read_lines(record / "transcript.jsonl"))
    begin = attempts.begin(
        lines,
        where.get("job", ""),
        where.get("pod_uid", ""),
        _reason(layout.CONFIG / "agent.json"),
        on_disruption=plan.experiment.sandbox.on_disruption,
    )
    if begin.over is not None:
        step.say("the run is over: an earlier pod ended it, and was gone before that was seen")
        Record.open(record, write=True).close()
        return begin.over
    if begin.refusal:
        return _refuse(record, begin.refusal)
    if last:
        try:
            _await_sandbox(last)
        except RunnerError as error:
            return _refuse(record, error.message)
    options = AgentOptions(
        record=record,
        url=os.environ.get("RUNNER_SANDBOX_URL", f"http://127.0.0.1:{layout.PORT}"),
        token_file=layout.TOKEN,
        cancel=layout.CANCEL,
        phases=layout.PHASES,
        sandbox_lock=turns.lock("sandbox") if last else None,
        sandbox_log=layout.SANDBOX_LOG,
        release=RELEASE,
        prepared=True,
        where=where,
        reason=begin.reason,
        plan=plan,
    )
    OPTIONS.write_text(options.model_dump_json())
    return supervise(OPTIONS)


def _await_sandbox(last: str) -> None:
    """Wait until all is prepared and the sandbox is there, unless this agent is told to leave."""

    def told_to_leave() -> bool:
        return signal.SIGTERM in signal.sigpending()

    step.say(f"waiting for `{last}`, the last container that prepares")
    turns.wait(last, told_to_leave)
    turns.wait_begun("sandbox", told_to_leave)


def leave() -> NoReturn:
    """Be gone at once: the record is another pod's, and so not a word goes into it."""
    termination.write("the record is written by another pod of this run: this one has left")
    os._exit(writer.LEFT)


def place(environ: Mapping[str, str]) -> dict[str, str]:
    """Where this agent runs, as the attempt's line has it, from the downward API's variables."""
    names = {"pod": "POD_NAME", "pod_uid": "POD_UID", "node": "NODE_NAME"}
    found = {key: environ[name] for key, name in names.items() if environ.get(name)}
    # A Job's pods are called after it, with five characters more.
    job = environ.get("RUNNER_JOB") or found.get("pod", "").rpartition("-")[0]
    return {"job": job, **found} if job else found


def since(mounted: Path) -> dict[str, str]:
    """Since when this pod has its GPU: its volumes were mounted, and no image pulled yet."""
    time = datetime.fromtimestamp(mounted.stat().st_mtime, UTC)
    return {"since": time.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _reason(told: Path) -> str:
    """Why this Job was made, as its client says in the ConfigMap."""
    return str(json.loads(told.read_text())["reason"]) if told.exists() else "started"


def _refuse(path: Path, words: str) -> int:
    step.say(words)
    record = Record.open(path, write=True)
    status = InfrastructureError.exit_status
    mark = record.journal_mark()
    record.say("end", state="failed", reason=words, bound=None, exit_status=status, journal=mark)
    record.close()
    return status


def _keep_logs(record: Path) -> None:
    """What the sandbox and uv printed, into the record: testimony, as the sandbox wrote it."""
    for log in LOGS:
        kept = record / "logs" / log.name
        with contextlib.suppress(OSError), open_plain(log) as said, kept.open("ab") as file:
            file.write(said.read(LOG_BYTES))
