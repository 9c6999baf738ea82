"""Talking to the agent of a run that is followed."""

from __future__ import annotations

import getpass
import queue
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from runner.backends.base import Handle
from runner.cli.context import Cli
from runner.cli.interrupts import Interrupts
from runner.cli.watch import Watch
from runner.errors import RunnerError
from runner.session import Session, Talk

LOOK_S = 0.2
LEAVE_S = 5.0
"""How long the agent may take to hear that nobody is there any more."""
AGAIN_S = 2.0
"""How soon an agent is looked for again that did not answer."""


def converse(
    cli: Cli, path: Path, handle: Handle, interrupts: Interrupts, history: int | None
) -> int:
    """Follow a run to its end, and tell its agent what is typed; the exit status that it means."""
    if cli.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        watch = Watch(cli, path, handle, interrupts, history)
        with Line(cli, handle, watch) as line:
            threading.Thread(target=_pipe, args=(line,), name="stdin", daemon=True).start()
            return _followed(watch, line)
    from runner.cli.prompt import Prompt

    with Prompt() as prompt:
        watch = Watch(cli, path, handle, interrupts, history, prompt.view)
        with Line(cli, handle, watch) as line:
            prompt.start(line)
            return _followed(watch, line)


def _followed(watch: Watch, line: Line) -> int:
    try:
        return watch.run()
    finally:
        for words in line.unheard:
            watch.note(f"the agent has not heard: {words}")


def _pipe(line: Line) -> None:
    for words in sys.stdin:
        if words.strip():
            line.say(words.strip())
    line.leave()


class Line:
    """The way to a run's agent, held while the context lasts; made again where it breaks."""

    def __init__(self, cli: Cli, handle: Handle, watch: Watch) -> None:
        self._cli, self._handle, self._watch = cli, handle, watch
        self._words: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self.unheard: list[str] = []
        """What was said and the agent has not heard."""
        self._left = threading.Event()
        self._talk: Talk | None = None
        self._told = ""
        self._keeping, self._telling = (
            threading.Thread(target=work, name="chat", daemon=True)
            for work in (self._keep, self._tell)
        )

    def __enter__(self) -> Line:
        self._keeping.start()
        self._telling.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._keeping.join(LEAVE_S)  # the agent hears of it then, and waits no more

    def say(self, words: str) -> None:
        """Tell it this as soon as it listens."""
        self.unheard.append(words)
        self._words.put((uuid.uuid4().hex, words))

    def stop(self) -> None:
        """Stop what it is at, if it is at something."""
        if self._talk is not None:
            self._heeding(self._talk.stop)

    def leave(self) -> None:
        """Be gone, once all that was said is heard."""
        self._words.put(None)

    def _keep(self) -> None:
        while not self._left.wait(LOOK_S):
            if not self._watch.running:
                continue
            try:
                with (
                    self._cli.engine.endpoint(self._handle) as endpoint,
                    Session(endpoint) as session,
                ):
                    self._talk = Talk(session, getpass.getuser())
                    self._talk.attend(self._left, self._hears)
                self._watch.leave_script()
            except (RunnerError, RuntimeError) as error:
                self._note(error)
            finally:
                self._talk = None
            self._left.wait(AGAIN_S)

    def _hears(self) -> None:
        self._told = ""
        self._watch.note("the agent hears what you say, before its next step")

    def _tell(self) -> None:
        while not self._left.is_set():
            if (said := self._words.get()) is None:
                self._left.set()
                self._watch.leave_script()
                return
            call, words = said
            while not self._left.is_set():
                talk = self._talk
                if talk and self._heeding(lambda: talk.say(words, call)):  # noqa: B023
                    self.unheard.remove(words)
                    break
                self._left.wait(LOOK_S)

    def _heeding(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except (RunnerError, RuntimeError) as error:
            self._note(error)
            return False
        return True

    def _note(self, error: Exception) -> None:
        """Say once what is in the way; not of a run that is over, or about to be."""
        words = error.message if isinstance(error, RunnerError) else ""
        if words and words != self._told and self._watch.running and not self._left.is_set():
            self._told = words
            self._watch.note(f"the agent does not hear: {words}; it is tried again")
