"""Terminal text as HTML: colours become CSS classes, every other escape sequence goes.

nbconvert's filter writes `style=` attributes, which the page's Content-Security-Policy
forbids, and its time grows with the square of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

_ESCAPE = re.compile(
    r"\x1b\[([0-9;]*)m"  # colours and weights
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # cursor movements and the like
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_STYLES = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse"}
_ENDS = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("inverse",)}


def ansi_to_html(text: str) -> str:
    """Escape `text` as HTML whose only tags are `<span class=…>`."""
    parts: list[str] = []
    style: dict[str, str] = {}
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(_span(text[end : match.start()], style))
        end = match.end()
        if match[1] is not None:
            _apply(style, iter([int(code or 0) for code in match[1][:200].split(";")]))
    parts.append(_span(text[end:], style))
    return "".join(parts)


def _span(text: str, style: dict[str, str]) -> str:
    if not text or not style:
        return escape(text)
    return f'<span class="{" ".join(sorted(style.values()))}">{escape(text)}</span>'


def _apply(style: dict[str, str], codes: Iterator[int]) -> None:
    for code in codes:
        if code == 0:
            style.clear()
        elif code in _STYLES:
            style[_STYLES[code]] = _STYLES[code]
        elif code in _ENDS:
            for name in _ENDS[code]:
                style.pop(name, None)
        elif code in (39, 49):
            style.pop("fg" if code == 39 else "bg", None)
        elif code in (38, 48):
            colour = _extended(codes)
            if colour is not None:
                kind = "fg" if code == 38 else "bg"
                style[kind] = f"{kind}{colour}"
        else:
            for kind, first, shift in (("fg", 30, 0), ("fg", 90, 8), ("bg", 40, 0), ("bg", 100, 8)):
                if first <= code < first + 8:
                    style[kind] = f"{kind}{code - first + shift}"


def _extended(codes: Iterator[int]) -> int | None:
    """Find the nearest of the 16 terminal colours to a 256-colour or 24-bit one."""
    kind = next(codes, None)
    if kind == 2:
        rgb = [next(codes, 0) for _ in range(3)]
    elif kind == 5:
        index = next(codes, 0)
        if index < 16:
            return index
        if index < 232:
            cube = index - 16
            rgb = [step * 51 for step in (cube // 36, cube // 6 % 6, cube % 6)]
        else:
            rgb = [8 + 10 * (index - 232)] * 3
    else:
        return None
    hue = sum(1 << bit for bit, value in enumerate(rgb) if value > 110)
    return hue + (8 if max(rgb) > 200 else 0)
