"""A real sandbox server in a process of its own, for tests that break it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from runner.sandbox.processes import marked
from runner.session import Endpoint, Session

READY_S = 60.0


def until(true: Callable[[], Any], deadline_s: float = 30.0, what: str = "") -> Any:
    """Wait for a condition; what it returned last."""
    end = time.monotonic() + deadline_s
    while not (value := true()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what or true}"
        time.sleep(0.02)
    return value


class SandboxProcess:
    """One sandbox's directories and options; the server on it can be started again."""

    def __init__(self, top: Path, **options: Any) -> None:
        self.workspace, self.state = top / "workspace", top / "state"
        self.token = secrets.token_hex(16)
        # Unix sockets have short paths; pytest's are long.
        self.runtime = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
        for directory in (self.workspace, self.state):
            directory.mkdir(exist_ok=True)
        (top / "token").write_text(self.token)
        self.environ = dict(os.environ)
        # ipykernel leaves file descriptors alone where it sees this one.
        self.environ.pop("PYTEST_CURRENT_TEST", None)
        self.log = top / "sandbox.log"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.options = {
            "run_id": "test-1",
            "name": "test",
            "workspace": str(self.workspace),
            "state": str(self.state),
            "runtime": str(self.runtime),
            "token_file": str(top / "token"),
            "python": sys.executable,
            "timeout_s": 600,
            "idle_timeout_s": 600,
            **options,
        }
        self._file = top / "options.json"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> SandboxProcess:
        """Start the server; it listens already."""
        self._file.write_text(json.dumps(self.options | {"socket_fd": self._listening.fileno()}))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner.sandbox", str(self._file)],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._listening.fileno()],
            )
        return self

    def session(self, **options: Any) -> Session:
        """A session that is connected."""
        session = Session(Endpoint(self.url, self.token), **options)
        try:
            session.connect(READY_S, self._alive)
        except BaseException:
            session.close()
            raise
        return session

    def _alive(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, deadline_s: float = 20.0) -> int:
        """The server's exit status."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL to the server alone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def processes(self) -> list[psutil.Process]:
        """Everything that the sandbox started and that still runs."""
        return list(marked(self.state))

    def journal(self) -> list[dict[str, Any]]:
        """The journal as it is on disk."""
        text = (self.state / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        """End what is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._listening.close()
        shutil.rmtree(self.runtime, ignore_errors=True)


@contextlib.contextmanager
def sandbox(
    top: Path, environ: dict[str, str] | None = None, **options: Any
) -> Iterator[SandboxProcess]:
    """A started sandbox server, ended afterwards."""
    made = SandboxProcess(top, **options)
    made.environ |= environ or {}
    try:
        yield made.start()
    finally:
        made.close()
