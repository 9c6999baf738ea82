"""What the model sees of a cell: nbformat outputs → Messages API content blocks. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from runner.agent.images import Unshowable, image_block
from runner.agent.text import PAGE, clean, from_html, left_out, shorten

Block = dict[str, Any]

TEXT_LIMIT = PAGE * 3 // 2
IMAGES = 20
_TRACEBACK_LIMIT = 4_000
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_BARE_REPR = re.compile(r"<[\w.]+ object( at 0x[0-9a-f]+)?>")

_STATES = {
    "queued": 'waits for its turn: wait(execution="{execution}") waits on',
    "running": 'still running: wait(execution="{execution}") waits on, '
    'interrupt(execution="{execution}") stops it',
    "kernel_died": "the kernel died: variables are gone, files are still there",
    "restarted": "the kernel was restarted before this ended: variables are gone, "
    "files are still there",
    "lost": "lost: the sandbox in which this ran is gone; nothing was run again",
}


@dataclass(frozen=True)
class Observation:
    """Content for a `tool_result`, never empty, and how many images it holds."""

    content: list[Block]
    images_used: int


@dataclass(frozen=True)
class _Picture:
    media_type: str
    data: str


def observe(
    outputs: Sequence[Mapping[str, Any]],
    *,
    state: str,
    reason: str = "",
    execution: str = "",
    cell: str = "",
    elapsed_s: float | None = None,
    text_limit: int = TEXT_LIMIT,
    images_left: int = IMAGES,
) -> Observation:
    """The outputs in their order, and on the last line how the execution stands.

    Text in all is held to about `text_limit` characters, head and tail; images beyond
    `images_left` are only mentioned. `state` is a cell's state in the notebook.
    """
    parts: list[str | Block] = []
    used = 0
    for kind, body in _sections(outputs):
        if isinstance(body, str):
            short = shorten(body, _TRACEBACK_LIMIT) if kind == "error" else body
            parts.append(short)
        elif used >= images_left:
            where = f"; people find it in the notebook, cell {cell}" if cell else ""
            parts.append(f"[{body.media_type} not shown: the budget of images is used up{where}]")
        else:
            try:
                parts.append(image_block(body.data))
                used += 1
            except Unshowable as error:
                parts.append(f"[{body.media_type} not shown: {error}]")
    part = text_limit * 2 // 3 // PAGE + 1
    how = f'read_cell(cell="{cell}", part={part}) reads on' if cell else ""
    shown = _shortened(_merged(parts), text_limit, how) or ["[no output]"]
    shown = _merged([*shown, _state_line(state, reason, execution, cell, elapsed_s)])
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in shown]
    return Observation(content, used)


def as_text(outputs: Sequence[Mapping[str, Any]]) -> str:
    """The whole text of the outputs, for `page`; an image is a line that says so."""
    bodies = (body for _, body in _sections(outputs))
    return "\n".join(
        body.removesuffix("\n") if isinstance(body, str) else f"[{body.media_type}]"
        for body in bodies
    )


def _sections(outputs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | _Picture]]:
    """Kind and body of each output; a text says its kind where that changes."""
    before = "stdout"
    for output in outputs:
        kind, body = _read(output)
        if isinstance(body, str):
            if not body.strip():
                continue
            body = body if kind == before else f"[{kind}]\n{body}"
        yield kind, body
        before = kind


def _read(output: Mapping[str, Any]) -> tuple[str, str | _Picture]:
    match output["output_type"]:
        case "stream":
            return output["name"], clean(_joined(output["text"]))
        case "error":
            trace = "\n".join(output.get("traceback") or ())
            return "error", clean(trace or f"{output['ename']}: {output['evalue']}")
        case "execute_result":
            return "result", _rich(output["data"])
        case _:
            return "display", _rich(output.get("data", {}))


def _rich(data: Mapping[str, Any]) -> str | _Picture:
    """The one representation of a display that tells a model most."""
    for media_type in _IMAGE_TYPES:
        if media_type in data:
            return _Picture(media_type, _joined(data[media_type]))
    plain = clean(_joined(data.get("text/plain", "")))
    if "text/markdown" in data:
        return clean(_joined(data["text/markdown"]))
    if plain.strip() and not _BARE_REPR.fullmatch(plain.strip()):
        return plain
    if "text/html" in data and (words := from_html(clean(_joined(data["text/html"])))):
        return words
    if "text/latex" in data:
        return clean(_joined(data["text/latex"]))
    if "application/json" in data:
        return json.dumps(data["application/json"], ensure_ascii=False)
    if "image/svg+xml" in data:
        size = len(_joined(data["image/svg+xml"]))
        return f"[an SVG image of {size:,} characters, not shown: draw it as PNG]"
    return plain or f"[{', '.join(data) or 'nothing'}, not shown]"


def _joined(text: Any) -> str:
    """A multi-line string of nbformat, which may be a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text)


def _merged(parts: Sequence[str | Block]) -> list[str | Block]:
    """Neighbouring texts become one, each on lines of its own."""
    merged: list[str | Block] = []
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            merged.append("\n".join(str(part).removesuffix("\n") for part in group))
        else:
            merged += group
    return merged


def _shortened(parts: list[str | Block], limit: int, how: str) -> list[str | Block]:
    """Head and tail of all text together; images stay where they are."""
    total = sum(len(part) for part in parts if isinstance(part, str))
    head, tail = limit * 2 // 3, total - limit // 3
    if total <= limit:
        return parts
    kept: list[str | Block] = []
    at, note = 0, left_out(tail - head, how)
    for part in parts:
        if not isinstance(part, str):
            kept.append(part)
            continue
        before, after = part[: max(0, head - at)], part[max(0, tail - at) :]
        at += len(part)
        if len(before) + len(after) < len(part):
            part, note = before + note + after, ""
        if part:
            kept.append(part)
    return kept


def _state_line(state: str, reason: str, execution: str, cell: str, elapsed_s: float | None) -> str:
    words = _STATES.get(state, state).format(execution=execution)
    facts = [words + (f" ({clean(reason).strip()})" if reason.strip() else "")]
    if elapsed_s is not None:
        facts.append(_duration(elapsed_s))
    if cell:
        facts.append(f"cell {cell}")
    return f"[{'; '.join(facts)}]"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )
