"""The text of one stream output, as a terminal would show it, in bounded memory."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

STREAM_CAP = 200_000
"""Characters that the notebook keeps of one stream output: half from each of its ends."""

_HALF = STREAM_CAP // 2
_LINE_MAX = _HALF // 2  # of a longer line the beginning can no longer be overwritten
_CONTROL = re.compile(r"([\r\b\n])")


class _Chunk(NamedTuple):
    """Finished text, and the journal lines (first, last) that it came in."""

    text: str
    first: int
    last: int


class StreamText:
    r"""Text that grows: `\r` and `\b` move the cursor in its last line.

    What went by before the last line is fixed. Of that, the first half of
    `STREAM_CAP` is kept and as much from the end; the rest is only counted.
    """

    __slots__ = (
        "_column",
        "_gone_first",
        "_gone_last",
        "_head",
        "_kept",
        "_last",
        "_line",
        "_line_first",
        "_room",
        "_tail",
        "_total",
    )

    def __init__(self) -> None:
        self._head: list[str] = []
        self._room = _HALF  # characters that still fit into the head
        self._tail: deque[_Chunk] = deque()
        self._kept = 0  # characters in the tail
        self._gone_first = self._gone_last = 0  # journal lines of what was let go
        self._total = 0  # characters in the finished text, kept or not
        self._line = ""
        self._column = 0
        self._line_first = self._last = 0

    def __len__(self) -> int:
        """Characters kept, at most (the note in the middle not counted)."""
        return min(self._total + len(self._line), STREAM_CAP)

    def write(self, text: str, seq: int) -> None:
        """Add what journal line `seq` brought."""
        self._last = seq
        if not self._line:
            self._line_first = seq
        if "\r" in text or "\b" in text or self._column < len(self._line):
            for part in _CONTROL.split(text):
                self._step(part)
        else:
            fixed, newline, rest = text.rpartition("\n")
            if newline:
                self._finish(self._line + fixed + newline)
                self._line, self._column, self._line_first = "", 0, seq
            self._put(rest)

    def text(self) -> str:
        """Give all of it, or its ends and between them a note where to find the rest."""
        self._head = ["".join(self._head)]
        head, rest = self._head[0], "".join(chunk.text for chunk in self._tail) + self._line
        left_out = self._total + len(self._line) - len(head) - min(len(rest), _HALF)
        if left_out <= 0:
            return head + rest
        first, last = self._left_out_lines(len(rest) - _HALF)
        note = (
            f"… {left_out} characters left out; "
            f"the whole text is in journal.jsonl, lines {first} to {last} …"
        )
        return f"{head}{'' if head.endswith(chr(10)) else chr(10)}{note}\n{rest[-_HALF:]}"

    def _step(self, part: str) -> None:
        if part == "\r":
            self._column = 0
        elif part == "\b":
            self._column = max(0, self._column - 1)
        elif part == "\n":
            self._finish(self._line + "\n")
            self._line, self._column, self._line_first = "", 0, self._last
        else:
            self._put(part)

    def _put(self, text: str) -> None:
        """Write over the last line from the cursor on."""
        end = self._column + len(text)
        self._line = self._line[: self._column] + text + self._line[end:]
        self._column = end
        if len(self._line) > 2 * _LINE_MAX:
            cut = len(self._line) - _LINE_MAX
            self._finish(self._line[:cut])
            self._line, self._line_first = self._line[cut:], self._last
            self._column = max(0, self._column - cut)

    def _finish(self, text: str) -> None:
        """Fix text that no cursor reaches any more, and let go of the middle."""
        self._total += len(text)
        if self._room:
            head, text = text[: self._room], text[self._room :]
            self._head.append(head)
            self._room -= len(head)
        if not text:
            return
        chunk = _Chunk(text[-_HALF:], self._line_first, self._last)
        if len(text) > _HALF:
            self._let_go(chunk)
        self._tail.append(chunk)
        self._kept += len(chunk.text)
        while self._kept - len(self._tail[0].text) >= _HALF:
            self._let_go(gone := self._tail.popleft())
            self._kept -= len(gone.text)

    def _let_go(self, chunk: _Chunk) -> None:
        self._gone_first = self._gone_first or chunk.first
        self._gone_last = chunk.last

    def _left_out_lines(self, cut: int) -> tuple[int, int]:
        """Name lines that hold all that was let go, and the first `cut` characters after it."""
        last = self._gone_last
        first = self._gone_first or (self._tail[0].first if self._tail else self._line_first)
        for chunk in self._tail:
            if cut <= 0:
                return first, last
            last = chunk.last
            cut -= len(chunk.text)
        return first, self._last if cut > 0 else last
