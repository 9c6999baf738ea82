"""Known secret values are taken out of everything that is written down."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, AnyStr, Generic
from urllib.parse import quote, quote_plus

Place = tuple[int, int]
MASK = "***"
SHORTEST = 4
"""Values with fewer characters are left alone: masking them would take ordinary text apart."""
SHORTEST_ENCODED = 8
"""Values with fewer characters are not looked for in base64, where chance would spell them."""


class Mask:
    """Replaces known values by `***` in text.

    Also as `repr`, JSON, HTML, a URL or base64 would spell them.
    """

    def __init__(self, values: Iterable[str]) -> None:
        spelled = {
            spelling
            for given in values
            for value in (given, given.strip())
            if len(value) >= SHORTEST
            for spelling in _spellings(value)
        }
        self._spellings = sorted(spelled, key=len, reverse=True)
        self._bytes = [
            spelling.encode("latin-1") for spelling in self._spellings if _plain(spelling)
        ]

    def __repr__(self) -> str:
        return f"Mask(<{len(self._spellings)} spellings>)"

    def __bool__(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self._spellings)

    def __call__(self, text: str) -> str:
        """The text with every known value replaced; values that overlap are one."""
        return _replaced(text, _places(text, self._spellings), MASK)

    def tree(self, value: Any) -> Any:
        """A JSON value with every string in it masked, keys too."""
        if not self._spellings:
            return value
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self(key): self.tree(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(item) for item in value]
        return value

    def stream(self) -> StreamMask[str]:
        """A masker for text that comes in pieces."""
        return StreamMask(self._spellings, "", MASK)

    def byte_stream(self) -> StreamMask[bytes]:
        """A masker for a file that comes in pieces: values are found in text of UTF-8."""
        return StreamMask(self._bytes, b"", MASK.encode())


class StreamMask(Generic[AnyStr]):
    """Masks values that are cut in two by the borders of the pieces.

    The end of a piece that may be the beginning of a value is held back until
    the next piece, or `flush`.
    """

    def __init__(self, spellings: Sequence[AnyStr], nothing: AnyStr, mask: AnyStr) -> None:
        self._spellings: Sequence[AnyStr] = spellings
        self._nothing: AnyStr = nothing
        self._mask: AnyStr = mask
        self._held: AnyStr = nothing
        self.found = False
        """Whether a value was in the text so far."""

    def feed(self, text: AnyStr) -> AnyStr:
        """What may be shown of the text so far."""
        text = self._held + text
        places = [*_places(text, self._spellings)]
        open_at = len(text) - max((_overlap(text, each) for each in self._spellings), default=0)
        cut = next((start for start, end in places if start < open_at < end), open_at)
        self._held = text[cut:]
        return self._masked(text[:cut], [place for place in places if place[1] <= cut])

    def flush(self) -> AnyStr:
        """What was held back, when nothing more comes."""
        held: AnyStr = self._held
        self._held = self._nothing
        return self._masked(held, [*_places(held, self._spellings)])

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    def _masked(self, text: AnyStr, places: Sequence[Place]) -> AnyStr:
        self.found = self.found or bool(places)
        return _replaced(text, places, self._mask)


def _places(text: AnyStr, spellings: Iterable[AnyStr]) -> Iterator[Place]:
    """Where known values are in the text, in order, those that overlap joined."""
    found = []
    for spelling in spellings:
        start = text.find(spelling)
        while start >= 0:
            found.append((start, start + len(spelling)))
            start = text.find(spelling, start + 1)
    if not found:
        return
    found.sort()
    first, last = found[0]
    for start, end in found:
        if start >= last:
            yield first, last
            first = start
        last = max(last, end)
    yield first, last


def _replaced(text: AnyStr, places: Iterable[Place], mask: AnyStr) -> AnyStr:
    parts: list[AnyStr] = []
    at = 0
    for start, end in places:
        parts += [text[at:start], mask]
        at = end
    parts.append(text[at:])
    return text[:0].join(parts) if at else text


def _plain(spelling: str) -> bool:
    """Whether each character is a byte, as in what UTF-8 makes of a value."""
    return all(ord(character) < 256 for character in spelling)


def _spellings(value: str) -> Iterator[str]:
    """The value as programs write it: plain, escaped, and in the middle of something encoded."""
    data = value.encode("utf-8", "replace")
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield html.escape(value)
    yield html.escape(value, quote=False)
    for safe in ("", "/"):
        yield quote(data, safe=safe)
        yield quote_plus(data, safe=safe)
    # The bytes of UTF-8 as who reads files sees them: one character each.
    yield data.decode("latin-1")
    if len(value) >= SHORTEST_ENCODED:
        for alphabet in (None, b"-_"):
            for before in range(3):
                yield _inside_base64(data, before, alphabet)


def _inside_base64(data: bytes, before: int, alphabet: bytes | None) -> str:
    """The characters that `data` alone decides, `before` bytes into a group of three."""
    text = base64.b64encode(bytes(before) + data, alphabet).decode()
    return text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


def _overlap(text: AnyStr, value: AnyStr) -> int:
    """The length of the longest end of `text` that is a proper beginning of `value`."""
    for size in range(min(len(value) - 1, len(text)), 0, -1):
        if text.endswith(value[:size]):
            return size
    return 0
