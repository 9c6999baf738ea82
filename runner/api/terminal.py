"""The terminal of a script, given to whoever talks to its agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.api.driven import DrivenRun

LEAVE_S = 10.0
"""How long the terminal may take to be as it was, once the agent has ended."""


@contextmanager
def attached(driven: DrivenRun, left: Callable[[], None]) -> Iterator[None]:
    """`runner attach --chat` of this run on this terminal; `left` is called when it has ended."""
    settings = driven.settings
    words = ["attach", driven.plan.run_id, "--chat", "--lines", "0"]
    places = ["--runs", str(Path(settings.runs).absolute()), "--backend", settings.backend]
    command = [sys.executable, "-m", "runner", *words, *places]
    environ = os.environ | {"RUNNER_STATE_DIR": str(settings.state_dir)}
    with subprocess.Popen(command, env=environ) as process:

        def wait() -> None:
            process.wait()
            left()

        waiting = threading.Thread(target=wait, name="chat", daemon=True)
        waiting.start()
        try:
            yield
        finally:
            waiting.join(LEAVE_S)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # which leaves the terminal as it was
                waiting.join(LEAVE_S)
            process.kill()
