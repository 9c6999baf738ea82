"""The .ipynb of a run: written off the cells' path, throttled, never seen half-written."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from runner.sandbox.book import Book

EVERY_S = 1.0
SHARE = 10
"""A render that took a second is followed by ten without one."""
NAME = "notebook.ipynb"


class NotebookFile:
    """Writes the book's notebook to a file. A reader sees one whole version or the next."""

    def __init__(self, book: Book, workspace: Path) -> None:
        self._book, self.path = book, workspace / NAME
        self._lock = threading.Lock()
        self._written = -1

    async def keep_written(self) -> None:
        """Write it whenever it changed, within a second; seldom when it is large."""
        loop = asyncio.get_running_loop()
        while True:
            await self._book.changed.until(lambda: self._book.notebook.version != self._written)
            began, version = loop.time(), self._book.notebook.version
            pieces = self._book.notebook.pieces()
            await asyncio.to_thread(self._write, version, pieces)
            await asyncio.sleep(max(EVERY_S, SHARE * (loop.time() - began)))

    def write(self) -> None:
        """Write it now."""
        self._write(self._book.notebook.version, self._book.notebook.pieces())

    def _write(self, version: int, pieces: list[bytes]) -> None:
        part = self.path.with_name(f".{NAME}.part")
        with self._lock:
            if version <= self._written:  # a write that was overtaken by the last one
                return
            try:
                with part.open("wb") as file:
                    file.writelines(pieces)
                part.replace(self.path)
            except OSError:  # a full disk: the old version stays, and the journal has it all
                part.unlink(missing_ok=True)
            else:
                self._written = version
