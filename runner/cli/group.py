"""The runs of a sweep: started together, followed together, told of together."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from runner.backends.base import Selector, Status
from runner.backends.patience import Patience
from runner.cli.context import Cli
from runner.cli.failures import INTERRUPTED
from runner.cli.interrupts import Interrupts
from runner.cli.summary import end_json, exit_status
from runner.cli.together import cost, counts, own_words, spent, worse
from runner.cli.watch import alive
from runner.errors import InfrastructureError, RunnerError

if TYPE_CHECKING:
    from rich.status import Status as Spinner

LOOK_S, LOOK_LONGEST_S, GROWTH = 0.5, 2.0, 1.2
"""How often all runs are looked at, and how rarely while nothing changes."""
SHARE = 4
"""It is waited so many times as long as a look took: many runs are looked at less often."""
TICK_S = 0.05
COUNTS_S = 10.0
"""Between two lines that only count, in a pipe."""
STREAMS = 16
"""Runs whose records are kept up to date while they go on; the others' come at their end."""
FETCHES = 4
"""Records that are brought in at the same time."""


class Show(Protocol):
    """Where what happens to a sweep is shown."""

    def counts(self, text: str) -> None:
        """How many runs are in which state, as it is now."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...


class _Lines:
    """In a pipe; of counts a line now and then."""

    def __init__(self, cli: Cli) -> None:
        self._cli, self._last, self._due = cli, "", 0.0

    def counts(self, text: str) -> None:
        now = time.monotonic()
        if text != self._last and now >= self._due:
            self._last, self._due = text, now + COUNTS_S
            self._cli.note(text)

    def say(self, text: str) -> None:
        self._cli.say(text)


class _Terminal:
    """A line that is kept up to date below those that stay."""

    def __init__(self, spinner: Spinner) -> None:
        self._spinner = spinner

    def counts(self, text: str) -> None:
        self._spinner.update(text)

    def say(self, text: str) -> None:
        self._spinner.console.print(text, soft_wrap=True)


@contextlib.contextmanager
def showing(cli: Cli) -> Iterator[Show]:
    """Lines for a pipe, a line that changes on a terminal; nothing of it with --json."""
    if cli.json or not sys.stdout.isatty():
        yield _Lines(cli)
        return
    from rich.console import Console

    with Console(highlight=False, markup=False).status("") as spinner:
        yield _Terminal(spinner)


def follow(cli: Cli, sweep_id: str) -> int:
    """Follow the runs of a sweep from where they stand; the worst exit status of them."""
    with Interrupts() as interrupts, showing(cli) as show:
        return Group(cli, sweep_id, interrupts, show).run()


class Group:
    """A sweep, followed until all of its runs are over."""

    def __init__(self, cli: Cli, sweep_id: str, interrupts: Interrupts, show: Show) -> None:
        self._cli, self._id, self._interrupts, self._show = cli, sweep_id, interrupts, show
        self._pool = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")
        self._streams: dict[str, contextlib.ExitStack] = {}
        self._fetching: dict[str, Future[tuple[Status | None, str]]] = {}
        self._over: dict[str, Status] = {}

    def run(self) -> int:
        """Tell of each run when it ends; returns the worst exit status of them."""
        pause_s, last, patience = LOOK_S, "", Patience(self._cli.note)
        try:
            while not self._interrupts.times:
                began = time.monotonic()
                found = patience.look(lambda: self._cli.engine.list(Selector(sweep=self._id)))
                if found is None:
                    self._pause(LOOK_LONGEST_S)
                    continue
                took_s = time.monotonic() - began
                for status in found:
                    self._look(status)
                self._tell(found)
                now = [self._over.get(status.run_id, status) for status in found]
                told = counts(now)
                self._show.counts(f"{self._id}: {told}")
                if all(status.run_id in self._over for status in found):
                    return self._conclude(now)
                pause_s = min(pause_s * GROWTH, LOOK_LONGEST_S) if told == last else LOOK_S
                last = told
                self._pause(max(pause_s, SHARE * took_s))
        except InfrastructureError as error:
            again = f"`{self._cli.command('attach', self._id)}` follows its runs again"
            error.hint = f"{error.hint}; {again}" if error.hint else again
            raise
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._cli.note(f"no longer followed; its runs go on\n{next_words(self._cli, self._id)}")
        return INTERRUPTED

    def _look(self, status: Status) -> None:
        run_id = status.run_id
        if not alive(status):
            if run_id not in self._fetching:
                self._fetching[run_id] = self._pool.submit(self._fetched, status)
        elif (
            status.state not in ("created", "preparing")
            and run_id not in self._streams
            and len(self._streams) < STREAMS
        ):
            stack = self._streams[run_id] = contextlib.ExitStack()
            with contextlib.suppress(RunnerError):  # its record comes at its end
                handle = self._cli.engine.attach(run_id)
                stack.enter_context(self._cli.engine.following(handle))

    def _fetched(self, status: Status) -> tuple[Status | None, str]:
        """How a run ended, its record brought in; else why that cannot be."""
        engine = self._cli.engine
        try:
            if stream := self._streams.get(status.run_id):
                stream.close()
            handle = engine.attach(status.run_id)
            engine.sync(handle)
            return engine.status(handle), ""
        except RunnerError as error:
            return None, error.message
        finally:
            self._streams.pop(status.run_id, None)

    def _tell(self, found: Sequence[Status]) -> None:
        """Tell of those that are over and whose records are here."""
        for status in reversed(found):
            run_id = status.run_id
            future = self._fetching.get(run_id)
            if run_id in self._over or future is None or not future.done():
                continue
            end, problem = future.result()
            if end is not None and alive(end):  # resumed meanwhile
                del self._fetching[run_id]
                continue
            self._over[run_id] = end or status
            self._tell_end(end or status, problem)

    def _tell_end(self, status: Status, problem: str) -> None:
        run = status.run
        if self._cli.json:
            self._cli.emit(**end_json(run, status, self._cli.records / status.run_id))
        else:
            why = f"{status.state}: {status.reason}".rstrip(": ")
            self._show.say(f"{status.run_id}  {why}  {own_words(run)}".rstrip())
        if problem:
            fetch = self._cli.command("fetch", status.run_id)
            self._cli.note(f"note: the record of {status.run_id} is not here: {problem}; {fetch}")

    def _conclude(self, found: Sequence[Status]) -> int:
        code = 0
        for status in found:
            code = worse(code, exit_status(status.state, status.exit_status))
        if self._cli.json:
            states = Counter(status.state for status in found)
            self._cli.emit(
                event="sweep",
                sweep=self._id,
                states=states,
                cost_usd=cost(found),
                exit_status=code,
            )
            return code
        self._show.say(f"{self._id}: {counts(found) or 'none of its runs is left'}; {spent(found)}")
        return code

    def _pause(self, pause_s: float) -> None:
        end = time.monotonic() + pause_s
        while time.monotonic() < end and not self._interrupts.times:
            time.sleep(TICK_S)


def next_words(cli: Cli, sweep_id: str) -> str:
    """The commands that make sense while the runs go on."""
    known = {
        cli.command("list", "--sweep", sweep_id): "shows how they stand",
        cli.command("attach", sweep_id): "follows them",
        cli.command("cancel", sweep_id): "ends them, keeping what was made",
    }
    wide = max(map(len, known))
    return "\n".join(f"  {command:{wide}}  {purpose}" for command, purpose in known.items())
