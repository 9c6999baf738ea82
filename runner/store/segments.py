"""A file that only grows, as numbered objects: S3 cannot append. Pure.

Put together in the order of their numbers, the objects are the file. Each
holds whole lines; only the last one is ever written again, longer. One that
has reached `FULL_BYTES` is full, and the next line begins another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

FULL_BYTES = 1 << 19
_KEY = re.compile(r"(?P<name>transcript|journal)/(?P<number>\d{6})\.jsonl")


@dataclass(frozen=True)
class Segment:
    """One object: its place in the file, from `begin` on."""

    number: int
    begin: int
    size: int
    tag: str = ""

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.begin + self.size

    @property
    def full(self) -> bool:
        """Whether it is never written again."""
        return self.size >= FULL_BYTES


def key_of(file: str, number: int) -> str:
    """The object's name: `transcript/000001.jsonl`."""
    return f"{file.removesuffix('.jsonl')}/{number:06}.jsonl"


def segments(file: str, objects: Iterable[tuple[str, int, str]]) -> list[Segment]:
    """The segments of a file among objects (key, bytes, tag), without a gap, in their order."""
    found = {}
    for key, size, tag in objects:
        match = _KEY.fullmatch(key)
        if match and f"{match['name']}.jsonl" == file:
            found[int(match["number"])] = (size, tag)
    made: list[Segment] = []
    while (number := len(made) + 1) in found:
        size, tag = found[number]
        made.append(Segment(number, made[-1].end if made else 0, size, tag))
    return made


def next_begin(there: Sequence[Segment]) -> tuple[int, int]:
    """Number and first byte of the segment that is to be written next."""
    if not there:
        return 1, 0
    last = there[-1]
    return (last.number + 1, last.end) if last.full else (last.number, last.begin)


def cut(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, put together to segments: full ones, and one that is not."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= FULL_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)
