"""Known secret values are taken out of everything that is written down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
SHORTEST = 4
"""Values with fewer characters are left alone: masking them would take ordinary text apart."""


class Mask:
    """Replaces known values by `***` in text, also as `repr`, JSON or a URL would spell them."""

    def __init__(self, values: Iterable[str]) -> None:
        spelled = {
            spelling
            for value in values
            if len(value) >= SHORTEST
            for spelling in (
                value,
                repr(value)[1:-1],
                json.dumps(value)[1:-1],
                quote(value, safe=""),
            )
        }
        self._spellings = sorted(spelled, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Mask(<{len(self._spellings)} spellings>)"

    def __call__(self, text: str) -> str:
        """The text with every known value replaced."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, MASK)
        return text

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

    def stream(self) -> StreamMask:
        """A masker for text that comes in pieces."""
        return StreamMask(self, self._spellings)


class StreamMask:
    """Masks values that are cut in two by the borders of the pieces.

    The end of a piece that may be the beginning of a value is held back until
    the next piece, or `flush`.
    """

    def __init__(self, mask: Mask, spellings: list[str]) -> None:
        self._mask, self._spellings = mask, spellings
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be shown of the text so far."""
        text = self._mask(self._held + text)
        keep = max((_overlap(text, spelling) for spelling in self._spellings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)


def _overlap(text: str, value: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `value`."""
    for size in range(min(len(value) - 1, len(text)), 0, -1):
        if text.endswith(value[:size]):
            return size
    return 0
