"""Whether two outputs are the same, nearly, or not."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest
from typing import Any

TOLERANCE = 1e-6
"""Of numbers in a text, relative to the larger one, if nobody says."""
LONGEST = 160
"""Characters of a line that a difference is shown with."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\bnan\b|\binf\b")
_ADDRESS = re.compile(
    r"\b0x[0-9a-fA-F]{6,}\b|(?<=journal\.jsonl, lines )\d+ to \d+|(?<=/cache/hidden/)[\w-]+"
)
"""Of an object; or of lines in a journal, which a note on outputs that are left out names; or a
run's directory of hidden models."""

Outputs = Sequence[Mapping[str, Any]]


class Verdict(IntEnum):
    """How near two outputs are; the larger, the farther."""

    SAME = 0
    CLOSE = 1
    DIFFERS = 2


@dataclass(frozen=True)
class Difference:
    """The verdict, and in words what differs most."""

    verdict: Verdict
    words: str = ""


SAME = Difference(Verdict.SAME)


def difference(before: Outputs, after: Outputs, tolerance: float = TOLERANCE) -> Difference:
    """Compare the outputs of a cell, nbformat's as JSON has them.

    What a cell printed is compared as one text for each stream, however it came in pieces;
    addresses of objects count for nothing, and an error is its name and its message. Texts are
    close where only numbers differ, and those by no more than the tolerance.
    """
    (printed, shown), (now_printed, now_shown) = _apart(before), _apart(after)
    names = dict.fromkeys([*printed, *now_printed])
    pairs = [(printed.get(name), now_printed.get(name)) for name in names]
    found = [_one(old, new, tolerance) for old, new in (*pairs, *zip_longest(shown, now_shown))]
    return max(found, key=lambda item: item.verdict, default=SAME)


def text_difference(before: str, after: str, tolerance: float = TOLERANCE) -> Difference:
    """Compare two texts."""
    before, after = _ADDRESS.sub("0x…", before), _ADDRESS.sub("0x…", after)
    if before == after:
        return SAME
    if _near(before, after, tolerance):
        return Difference(Verdict.CLOSE, "numbers within the tolerance")
    lines = zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    apart = (pair for pair in lines if pair[0] != pair[1] and not _near(*pair, tolerance))
    old, new = next(apart, (before[-LONGEST:], after[-LONGEST:]))
    return Difference(Verdict.DIFFERS, f"{old[:LONGEST]!r} → {new[:LONGEST]!r}")


def _one(old: Any, new: Any, tolerance: float) -> Difference:
    if old is None or new is None:
        words = f"more: {_shown(new)}" if old is None else f"missing: {_shown(old)}"
        return Difference(Verdict.DIFFERS, words)
    if old["output_type"] != new["output_type"]:
        return Difference(Verdict.DIFFERS, f"{_shown(old)} → {_shown(new)}")
    if old["output_type"] == "stream":
        return text_difference(_text(old["text"]), _text(new["text"]), tolerance)
    if old["output_type"] == "error":
        return text_difference(_said(old), _said(new), tolerance)
    return _data(old["data"], new["data"], tolerance)


def _data(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> Difference:
    if sorted(old) != sorted(new):
        return Difference(Verdict.DIFFERS, f"{', '.join(sorted(old))} → {', '.join(sorted(new))}")
    found = [SAME]
    for kind in old:
        if kind.startswith("image/") and kind != "image/svg+xml":
            found.append(_image(kind, _text(old[kind]), _text(new[kind])))
        elif isinstance(old[kind], str | list):
            found.append(text_difference(_text(old[kind]), _text(new[kind]), tolerance))
        elif old[kind] != new[kind]:
            found.append(Difference(Verdict.DIFFERS, f"{kind} differs"))
    return max(found, key=lambda item: item.verdict)


def _image(kind: str, old: str, new: str) -> Difference:
    if old == new:
        return SAME
    from PIL import Image, ImageChops

    try:
        one, two = (
            Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA") for data in (old, new)
        )
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        return Difference(Verdict.DIFFERS, f"{kind} differs")
    if one.size != two.size:
        return Difference(Verdict.DIFFERS, f"{kind} of {one.size} → {two.size} pixels")
    apart = ImageChops.difference(one, two).getbbox(alpha_only=False)
    return Difference(Verdict.DIFFERS, f"{kind}: pixels differ") if apart else SAME


def _apart(outputs: Outputs) -> tuple[dict[str, Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Each stream as one output, and what else was shown."""
    streams: dict[str, Mapping[str, Any]] = {}
    for output in outputs:
        if output["output_type"] == "stream":
            before = _text(streams[output["name"]]["text"]) if output["name"] in streams else ""
            streams[output["name"]] = {**output, "text": before + _text(output["text"])}
    return streams, [output for output in outputs if output["output_type"] != "stream"]


def _near(before: str, after: str, tolerance: float) -> bool:
    """Whether only numbers differ, and all of them are close."""
    if _NUMBER.sub("0", before) != _NUMBER.sub("0", after):
        return False
    pairs = zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True)
    return all(one == two or _close(float(one), float(two), tolerance) for one, two in pairs)


def _close(one: float, two: float, tolerance: float) -> bool:
    return math.isclose(one, two, rel_tol=tolerance) or (math.isnan(one) and math.isnan(two))


def _shown(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"{output['name']} {_text(output['text'])[:LONGEST]!r}"
    if output["output_type"] == "error":
        return _said(output)[:LONGEST]
    return ", ".join(sorted(output["data"]))


def _said(error: Mapping[str, Any]) -> str:
    return f"{error['ename']}: {error['evalue']}"


def _text(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
