"""`python -m runner.agent OPTIONS.json`: the agent's process.

A small supervisor, which starts the worker again when it crashes: on a
cluster the sandbox would die with this container. A worker that came to an
end has written an `end` line; one that has not, crashed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from runner.agent.options import AgentOptions
from runner.record import Record, read_lines, writer
from runner.signals import accept_sigterm, sigterm_held

MOST_RESTARTS = 3
CRASHED = 3
LEFT = 128 + signal.SIGTERM


def main() -> int:
    """Supervise, or work when told so."""
    file = Path(sys.argv[1])
    if len(sys.argv) == 2:
        return supervise(file)
    from runner.agent.worker import work

    return work(AgentOptions.model_validate_json(file.read_bytes()), int(sys.argv[2]), sys.argv[3])


def supervise(file: Path) -> int:
    """Run workers, which are told what is in `file`, until one ends; the run's exit status.

    Where another attempt took the run over meanwhile, nothing more is written (LEFT).
    """
    options = AgentOptions.model_validate_json(file.read_bytes())
    pod = options.where.get("pod_uid")
    worker: subprocess.Popen[bytes] | None = None
    leaving = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True
        if worker is not None:
            worker.terminate()

    signal.signal(signal.SIGTERM, leave)
    accept_sigterm()
    reason, first, begin = options.reason, _attempts(options) + 1, _lines(options)
    words = ""
    for attempt in range(first, first + 1 + MOST_RESTARTS):
        with sigterm_held():
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "runner.agent", str(file), str(attempt), reason],
                close_fds=False,  # the lock on the record is held by whoever of the two lives
            )
        if leaving:  # told so before there was a worker
            worker.terminate()
        status = worker.wait()
        if pod and not writer.is_ours(options.record, pod):
            os._exit(writer.LEFT)  # the worker left for that; not another word is to be written
        if _attempts(options) > attempt:
            return LEFT
        if (end := _end_since(options, begin)) is not None:
            if status != end:  # killed when it had said so
                Record.open(options.record, write=True).close()
            return end
        words = f"the agent's process {_words(status)}"
        if leaving:
            break
        reason = f"{words}; it was started again"
    return _end(options, words, leaving=leaving)


def _end(options: AgentOptions, words: str, *, leaving: bool) -> int:
    """Write the end that the worker has not written."""
    if leaving and options.cancel.exists():
        state, reason, status = "cancelled", f"{options.cancel.read_text()}; {words}", 130
    elif leaving:
        state, reason, status = "interrupted", words, LEFT
    else:
        # Init containers prepared a sandbox that ends with the agent's container.
        lost = "is lost" if options.prepared else "is in the sandbox, which ends when it is idle"
        reason = (
            f"{words}, the last of {MOST_RESTARTS + 1} times; logs/agent.log says why. What was "
            f"not collected {lost}"
        )
        state, status = "failed", CRASHED
    record = Record.open(options.record, write=True)
    journal = record.journal_mark()
    record.say("end", state=state, reason=reason, bound=None, exit_status=status, journal=journal)
    record.close()
    return status


def _lines(options: AgentOptions) -> int:
    return sum(1 for _ in read_lines(options.record / "transcript.jsonl"))


def _attempts(options: AgentOptions) -> int:
    return Record.open(options.record).state().attempts


def _end_since(options: AgentOptions, begin: int) -> int | None:
    """The run's exit status, if an `end` line was written after the first `begin` lines."""
    lines = [line for line, _ in read_lines(options.record / "transcript.jsonl")]
    ends = [line["exit_status"] for line in lines[begin:] if line["type"] == "end"]
    return ends[-1] if ends else None


def _words(status: int) -> str:
    if status < 0:
        return f"was killed by signal {signal.Signals(-status).name}"
    return f"ended with status {status}"


if __name__ == "__main__":
    sys.exit(main())
