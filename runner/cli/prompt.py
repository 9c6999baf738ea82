"""A line to type on below what happens, on a terminal."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.text import Text

from runner.cli.live import INDENT, numbers, rendered
from runner.cli.narrate import Entry, Narrator
from runner.cli.words import between, seconds

if TYPE_CHECKING:
    from runner.cli.chat import Line

ESCAPE_S = 0.05
"""How long after ESC the rest of an arrow key's code may come."""


class Prompt:
    """The line, while the context lasts; it is also the view of what happens above it."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._over = threading.Event()
        self._narrator = Narrator()
        self._line: Line | None = None
        self._session: PromptSession[str] = PromptSession(
            "› ",
            key_bindings=self._keys(),
            bottom_toolbar=self._bar,
            refresh_interval=0.5,
            erase_when_done=True,
            reserve_space_for_menu=0,
        )
        self._session.app.ttimeoutlen = ESCAPE_S
        self._typing = threading.Thread(target=self._type, name="prompt", daemon=True)

    def __enter__(self) -> Prompt:
        # What others print goes above the line too.
        self._open.enter_context(patch_stdout(raw=True))
        self._console = Console(
            file=sys.stdout, force_terminal=True, highlight=False, markup=False, emoji=False
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._open.close()

    def view(self, narrator: Narrator) -> Prompt:
        """Itself, for what this narrator tells."""
        self._narrator = narrator
        return self

    def start(self, line: Line) -> None:
        """Begin to take words for an agent."""
        self._line = line
        self._typing.start()

    # -- the view --------------------------------------------------------------------------

    def show(self, entry: Entry) -> None:
        """Print it above the line."""
        self._console.width = shutil.get_terminal_size().columns
        for part in rendered(entry, max(self._console.width - INDENT - 4, 20)):
            self._console.print(part)

    def note(self, text: str) -> None:
        """Print it there too."""
        self._console.print(Text(text, style="yellow"))

    def tick(self) -> None:
        """Nothing: the bar below refreshes itself."""

    def close(self) -> None:
        """Take the line away."""
        self._over.set()
        app = self._session.app
        if app.is_running and app.loop:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                app.loop.call_soon_threadsafe(lambda: app.is_running and app.exit(result=""))
        if self._typing.ident is not None:
            self._typing.join(2.0)

    # -- the line --------------------------------------------------------------------------

    def _type(self) -> None:
        while not self._over.is_set():
            try:
                words = self._session.prompt(handle_sigint=False).strip()
            except EOFError:
                signal.raise_signal(signal.SIGINT)  # as whoever follows leaves: the run goes on
                return
            if words and self._line:
                self._line.say(words)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("escape", eager=True)
        def _(_event: KeyPressEvent) -> None:
            if self._line:
                threading.Thread(target=self._line.stop, name="stop", daemon=True).start()

        @keys.add("c-c", eager=True)
        def _(_event: KeyPressEvent) -> None:
            signal.raise_signal(signal.SIGINT)

        return keys

    def _bar(self) -> Any:
        now = self._narrator.now
        since = f"  {seconds(between(now.since, None))}" if now.since else ""
        unheard = len(self._line.unheard) if self._line else 0
        parts = [numbers(self._narrator), *([f"{unheard} to be heard"] if unheard else [])]
        keys = "ESC interrupts · Ctrl-D leaves"
        text = f" {now.words}{since}\n {' · '.join([*parts, keys])}"
        return FormattedText([("noreverse", text)])
