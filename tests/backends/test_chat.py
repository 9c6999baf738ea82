"""Talking to an agent while it works: `attach --chat`, on every backend."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from command_line import TESTS, CommandLine, Started
from tiny_runs import Lab, Run, cell, end, held, until

from runner.record.verify import verify

WAITS = "the agent waits for what `attach --chat` tells it"


@contextmanager
def chat(lab: Lab, *words: str) -> Iterator[Started]:
    """The command, with a pipe to type on."""
    line = CommandLine(lab.top, **lab.env, KUBECONFIG=os.environ.get("KUBECONFIG", ""))
    with line.starting("attach", *words, "--chat", stdin=subprocess.PIPE) as started:
        yield started


def typed(started: Started, words: str) -> None:
    stdin = started.process.stdin
    assert stdin
    stdin.write(f"{words}\n")
    stdin.flush()


def said(run: Run) -> list[tuple[str, str]]:
    return [
        (line["role"], line["content"][0].get("text", ""))
        for line in run.synced().lines()
        if line["type"] == "message" and line["content"]
    ]


def test_an_agent_is_told_what_is_typed_and_waits_for_more(lab: Lab) -> None:
    run = lab.submit([cell(held(after="print('the first')")), {"text": "It is."}, end()])
    with chat(lab, run.run_id) as started:
        started.said("the agent hears what you say")
        typed(started, "And the second?")
        run.let_go()
        started.said(re.escape(WAITS))
        until(lambda: run.status.reason == WAITS, "status says so")  # run.json follows the line
        typed(started, "Thank you.")
        started.said("That is all.")
        assert started.process.stdin
        started.process.stdin.close()
        told = started.end()
    assert told.status == 0, told
    assert run.status.state == "done"
    by = [line.get("by") for line in run.synced().lines() if line.get("by")]
    assert len(by) == 2
    texts = [text for role, text in said(run) if role == "user"]
    assert texts[1:] == ["And the second?", "Thank you."]
    report = verify(run.path)
    assert report.ok, "\n".join(map(str, report.findings))


def test_a_cell_is_stopped_and_the_agent_waits_for_what_to_do(lab: Lab) -> None:
    """On a terminal, whose ESC it is."""
    began = "open('outputs/began', 'w').close()"
    run = lab.submit([cell(held(began)), cell("print('the other')"), end()])
    with terminal(lab, "attach", run.run_id, "--chat") as screen:
        screen.shows("the agent hears what you say")
        run.wait_for_output("began")
        screen.types("\x1b")
        screen.shows("interrupted")
        screen.shows(WAITS)
        screen.types("Do the other.\r")
        screen.shows("That is all.")
        screen.types("\x04")
        screen.ends()
    run.over()
    assert run.status.state == "done", run.status.reason
    assert ("user", "Do the other.") in said(run)
    texts = [text for role, text in said(run) if role == "user"]
    assert texts[1] == "[runner] Somebody who watches has interrupted you."
    ends = [line["state"] for line in run.journal() if line["type"] == "end"]
    assert ends[0] == "interrupted"


class Screen:
    """A terminal, and what was written to it so far, without codes."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self._master, self._written, self._seen = process, master, b"", 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._written += data
                if b"\x1b[6n" in data:  # where is the cursor?
                    os.write(self._master, b"\x1b[1;1R")
        except OSError:  # closed at its other end
            return

    @property
    def text(self) -> str:
        words = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self._written).decode("utf-8", "replace")
        return words[self._seen :]

    def shows(self, words: str) -> None:
        """Wait until it has, after what it has shown so far."""
        until(lambda: words in self.text, f"{words!r} on the terminal:\n{self.text}")
        self._seen += self.text.index(words) + len(words)

    def types(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ends(self) -> None:
        self.process.wait(60)


@contextmanager
def terminal(lab: Lab, *words: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    env = {**kept, **lab.env, "PYTHONPATH": str(TESTS.parent), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "runner", *words]
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=lab.top,
        env=env,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Screen(process, master)
        finally:
            process.kill()
            process.wait()
            os.close(master)
