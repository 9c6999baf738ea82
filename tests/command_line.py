"""The command line as its user has it: a process in a directory, its words and exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

HEEDS = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""A shell has what runs behind `&`, tests too, ignore Ctrl-C."""
TESTS = Path(__file__).resolve().parent
LONGEST_S = 240.0
_RUN = re.compile(r"^run (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit status; negative where a signal ended it."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All of it on one line, for looking words up."""
        return " ".join(f"{self.out}\n{self.err}".split())

    @property
    def data(self) -> dict[str, Any]:
        """The last object of `--json`."""
        said: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return said


class Started:
    """A command that goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._out: list[str] = []
        self._err: list[str] = []
        self._news = threading.Condition()
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((process.stdout, self._out), (process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line)
                self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    @property
    def told(self) -> Told:
        """As far as it has got."""
        code = self.process.poll()
        return Told(0 if code is None else code, "".join(self._out), "".join(self._err))

    def said(self, pattern: str, deadline_s: float = LONGEST_S) -> re.Match[str]:
        """Wait until it has said this."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._out + self._err), re.MULTILINE)

        with self._news:
            self._news.wait_for(lambda: found() or not self._open, deadline_s)
        match = found()
        assert match, f"it never said {pattern!r}:\n{self.told}"
        return match

    @property
    def run_id(self) -> str:
        """Of the run that it announces."""
        return self.said(_RUN.pattern)[1]

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def end(self, deadline_s: float = LONGEST_S) -> Told:
        """Wait for its end."""
        self.process.wait(deadline_s)
        for reader in self._readers:
            reader.join(deadline_s)
        return self.told


class CommandLine:
    """`runner` in a directory, with these variables."""

    def __init__(self, folder: Path, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.env = folder, env

    def but(self, **env: str) -> CommandLine:
        """With other variables."""
        return CommandLine(self.folder, **{**self.env, **env})

    def there(self, folder: Path) -> CommandLine:
        """In another directory, which knows of no run."""
        return CommandLine(folder, **self.env)

    @contextmanager
    def starting(
        self,
        *words: str,
        program: tuple[str, ...] = ("-m", "runner"),
        stdin: int = subprocess.DEVNULL,
    ) -> Iterator[Started]:
        """A command that goes on while the context lasts; it is killed at the end."""
        argv = [sys.executable, *program, *words]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
        with subprocess.Popen(
            argv,
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(TESTS.parent), **self.env},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=HEEDS,
        ) as process:
            started = Started(process)
            try:
                yield started
            finally:
                process.kill()
                started.end()  # before its pipes are closed, which are still being read

    def __call__(self, *words: str) -> Told:
        """A command to its end."""
        with self.starting(*words) as started:
            return started.end()

    def killed(self, when: str, verb: str, resource: str, *words: str) -> Told:
        """A command that kills itself at a call of the API; see killed_client.py."""
        program = (str(TESTS / "killed_client.py"), when, verb, resource)
        with self.starting(*words, program=program) as started:
            return started.end()
