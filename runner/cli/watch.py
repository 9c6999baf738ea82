"""Following a run to its end: reads the record, asks the backend, changes nothing.

Ctrl-C stops the following; a second one within `SECOND_S` cancels the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.backends.base import Handle, Status, alone
from runner.backends.driven import driven
from runner.backends.patience import Patience
from runner.cli.context import Cli
from runner.cli.failures import INTERRUPTED
from runner.cli.interrupts import Interrupts
from runner.cli.narrate import Entry, Narrator
from runner.cli.summary import end_json, exit_status, made, next_lines
from runner.cli.views import View, view_of
from runner.cli.words import between, seconds
from runner.errors import InfrastructureError
from runner.record import check_chain, follow

SECOND_S = 2.0
GRACE_S = 30.0
"""For the agent to collect what was made, when a run is cancelled; a backend may give it more."""
RELEASE_S = 5.0
"""How long the end of the sandbox is waited for, once the run is over."""
QUICK_S, SLOW_S = 0.1, 0.5
"""How often the backend is asked at first while a run starts or ends, and in between."""
LONGEST_S, GROWTH = 2.0, 1.2
"""While nothing changes it is asked less and less often: a run may be queued for days."""
_SLOW = frozenset(("running",))


class Watch:
    """One run, followed from the start of its record.

    Of what happened before, the last `history` entries are shown, all for None. `view` makes the
    view; it is the one that fits where stdout goes, if left out.
    """

    def __init__(
        self,
        cli: Cli,
        path: Path,
        handle: Handle,
        interrupts: Interrupts,
        history: int | None,
        view: Callable[[Narrator], View] | None = None,
    ) -> None:
        self._cli, self._path, self._handle = cli, path, handle
        self._interrupts, self._seen_interrupts, self._pressed = interrupts, 0, float("-inf")
        self._narrator = Narrator()
        self._view = view(self._narrator) if view else view_of(cli, self._narrator)
        self._earlier: deque[Entry] | None = deque(maxlen=None if cli.json else history)
        self._looks, self._look_at, self._pause_s = 0, 0.0, QUICK_S
        self._last: Any = None
        self._leave_at = float("inf")
        self._wait_until = 0.0
        self._left = self._left_script = False
        self._alive = True
        self._mends: set[str] = set()
        self._patience = Patience(self._view.note)

    @property
    def running(self) -> bool:
        """Whether the run's agent is at work, as far as is known."""
        return self._narrator.run.state == "running"

    def note(self, text: str) -> None:
        """Say something that is about this command, not about the run."""
        self._view.note(text)

    def leave_script(self) -> None:
        """No longer follow a run that a script drives, which goes on without its agent."""
        self._left_script = True

    def run(self) -> int:
        """Follow to the end; returns the exit status that it means."""
        try:
            with self._cli.engine.following(self._handle):
                for file, line in follow(self._path, from_start=True, stop=self._over):
                    for entry in self._narrator.apply(file, line):
                        self._show(entry)
            self._tell_earlier()
        except InfrastructureError as error:
            again = f"`{self._cli.command('attach', self._handle.run_id)}` follows the run again"
            error.hint = f"{error.hint}; {again}" if error.hint else again
            raise
        finally:
            self._view.close()
        if self._left:
            return 0 if self._left_script and driven(self._narrator.run) else INTERRUPTED
        return self._conclude(self._cli.engine.status(self._handle))

    def _show(self, entry: Entry) -> None:
        if self._earlier is None:
            self._view.show(entry)
        else:
            self._earlier.append(entry)

    def _tell_earlier(self) -> None:
        earlier, self._earlier = self._earlier or (), None
        for entry in earlier:
            self._view.show(entry)

    def _over(self) -> bool:
        """Called at each look at the record: whether it is the last one."""
        self._looks += 1
        if self._looks > 1 and self._earlier is not None:
            self._tell_earlier()
        now = time.monotonic()
        for pressed in self._interrupts.times[self._seen_interrupts :]:
            self._seen_interrupts += 1
            self._interrupted(pressed, now)
        left_script = self._left_script and driven(self._narrator.run)
        if now > self._leave_at or left_script:
            self._left = True
            return True
        if now >= self._look_at:
            self._ask(now)
        self._view.tick()
        return not self._alive

    def _ask(self, now: float) -> None:
        status = self._patience.look(lambda: self._cli.engine.status(self._handle))
        if status is None:
            self._look_at = now + LONGEST_S
            return
        self._alive = alive(status) or self._letting_go(status, now)
        if not self._alive:
            self._cli.engine.sync(self._handle)  # for the last look at the record
        for entry in self._narrator.preparing(status.phases) if alive(status) else ():
            self._show(entry)
        if status.since and status.mend and status.mend not in self._mends and alive(status):
            self._mends.add(status.mend)
            # The words of what is prepared have just been told.
            known = status.state in ("created", "preparing")
            words = [f"→ {status.mend}"] if known else [status.reason, f"→ {status.mend}"]
            self._show(Entry("note", status.since, words[0], tuple(words[1:])))
        state = self._narrator.run.state
        looked = (state, status.state, status.reason, status.phases)
        if looked != self._last:
            self._last, self._pause_s = looked, SLOW_S if state in _SLOW else QUICK_S
        else:
            self._pause_s = min(self._pause_s * GROWTH, LONGEST_S)
        self._look_at = now + self._pause_s

    def _letting_go(self, status: Status, now: float) -> bool:
        """Whether the sandbox of a run that is over still ends, so that its GPU is not free yet."""
        if not let_go(status):
            return False
        self._wait_until = self._wait_until or now + RELEASE_S
        return now < self._wait_until

    def _interrupted(self, pressed: float, now: float) -> None:
        run_id = self._handle.run_id
        first, self._pressed = self._pressed, pressed
        if pressed - first <= SECOND_S or pressed <= self._leave_at < float("inf"):
            self._leave_at, self._pressed = float("inf"), float("-inf")
            self._view.note("cancelling; what was made is kept (Ctrl-C: do not wait for it)")
            with self._interrupts.raising():
                self._cli.engine.stop(self._handle, GRACE_S)
            self._look_at = 0.0
            return
        self._leave_at = now + SECOND_S
        self._view.note(
            f"no longer followed; the run goes on\n"
            f"  {self._cli.command('attach', run_id)}   follows it again\n"
            f"  {self._cli.command('cancel', run_id)}   ends it, keeping what was made"
            f" (or Ctrl-C again within {SECOND_S:.0f} s)"
        )

    def _conclude(self, status: Status) -> int:
        """Say how it ended."""
        run, code = self._narrator.run, exit_status(status.state, status.exit_status)
        head = check_chain(self._path / "transcript.jsonl").head
        if self._cli.json:
            self._cli.emit(
                **end_json(run, status, self._path),
                outputs=[{k: f[k] for k in ("path", "bytes", "sha256")} for f in run.outputs],
                head=head,
            )
            return code
        self._cli.say()
        self._cli.say(f"{status.state}: {status.reason}".rstrip(": "))
        verify = self._cli.command("verify", run.run_id, "--head", "HEAD")
        altered = f"kept elsewhere, it shows whether the record was altered: {verify}"
        pairs = [*made(run), ("head", head), ("", altered), ("record", str(self._path))]
        for label, text in (*pairs, *next_lines(run, status.state, self._cli.command)):
            self._cli.pair(label, text)
        return code


def alive(status: Status) -> bool:
    """Whether something of the run still goes on, so that its record may grow."""
    if alone(status.run):
        return status.sandbox_alive
    return status.agent_alive


def let_go(status: Status) -> bool:
    """Whether the run is over, and its sandbox is about to end."""
    over = status.run.is_over and not status.agent_alive
    return over and status.sandbox_alive and status.state != "interrupted"


def waiting(status: Status) -> str:
    """The phase that goes on, and for how long; "" where none does."""
    if status.phases and not status.phases[-1].ended and not status.phases[-1].failure:
        phase = status.phases[-1]
        return f"{phase.name} {phase.detail}, {seconds(between(phase.started, None))}"
    return ""
