"""Text as a model should read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from wcwidth import strip_sequences

from runner.errors import UsageError

PAGE = 8_000
"""Characters in one part of a cell's text. The head of a shortened text is as long."""

_CURSOR = re.compile(r"([\r\x08]|\x1b\[[02]?K)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    r"""What a terminal would show in the end, without its colours, titles and links.

    Escape sequences and control characters go, lines overwritten by `\r` and `\b`
    are resolved, half surrogate pairs (which cannot be sent) become `?`.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    text = "\n".join(_drawn(line) if _CURSOR.search(line) else line for line in lines)
    text = _CONTROL.sub("", strip_sequences(text))
    return text.encode("utf-8", "replace").decode("utf-8")


def _drawn(line: str) -> str:
    """A line as it stands after carriage returns, backspaces and erasures (EL)."""
    row: list[str] = []
    at = 0
    for piece in _CURSOR.split(line):
        if piece == "\r":
            at = 0
        elif piece == "\b":
            at = max(0, at - 1)
        elif piece == "\x1b[2K":  # in the wild it goes with a carriage return
            row, at = [], 0
        elif _CURSOR.fullmatch(piece):
            del row[at:]
        else:
            written = strip_sequences(piece)
            row[at : at + len(written)] = written
            at += len(written)
    return "".join(row)


def shorten(text: str, limit: int, how: str = "") -> str:
    """Head and tail of a text longer than `limit`, with the count of what is left out between.

    `how` says how to read the rest.
    """
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, len(text) - limit // 3
    return f"{text[:head]}{left_out(tail - head, how)}{text[tail:]}"


def left_out(count: int, how: str) -> str:
    """The line that stands where text was left out."""
    return f"\n… {count:,} characters left out{f'; {how}' if how else ''} …\n"


def page(text: str, part: int, size: int = PAGE) -> str:
    """Part `part` (from 1) of a text cut into parts of `size` characters.

    Raises `UsageError` where there is no such part.
    """
    parts = max(1, -(-len(text) // size))
    if not 1 <= part <= parts:
        raise UsageError(f"there is no part {part}: there are parts 1 to {parts}")
    start = (part - 1) * size
    if parts == 1:
        return text
    end = min(start + size, len(text))
    return (
        f"[part {part} of {parts}: characters {start + 1:,} to {end:,} of {len(text):,}]\n"
        f"{text[start:end]}"
    )


def from_html(html: str) -> str:
    """The words of an HTML fragment: rows and paragraphs on lines of their own, no markup."""
    parser = _Words()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.words).split("\n"))
    return "\n".join(line for line in lines if line)


class _Words(HTMLParser):
    """Collects text outside of scripts and styles."""

    lines = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "pre", "table"})
    cells = frozenset({"td", "th"})
    silent = frozenset({"script", "style", "head"})

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.depth += tag in self.silent
        self.words.append("\n" if tag in self.lines else "  " if tag in self.cells else "")

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - (tag in self.silent))
        self.words.append("\n" if tag in self.lines else "")

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.words.append(data)
