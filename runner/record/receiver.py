"""Receiver: the other end of a stream of frames (stream.py), which writes them into a copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.errors import RecordError
from runner.record.chain import disk_error
from runner.record.copy import JOURNAL, RecordCopy

HEADER_BYTES = 1 << 16


class Receiver:
    """Writes the frames of a stream, which come in chunks of any size, into a copy."""

    def __init__(self, copy: RecordCopy) -> None:
        """Write into this copy."""
        self._copy = copy
        self._buffer = bytearray()
        self._header: dict[str, Any] | None = None
        self._part: Path | None = None
        self.complete = False
        """Whether the sender said that nothing more will come."""
        self.over = False
        """Whether the run is over in the record, as the sender saw it last."""

    def have(self) -> dict[str, Any]:
        """What the sender has to know."""
        return self._copy.have()

    def take(self, chunks: Iterable[bytes]) -> None:
        """Take chunks until there are no more; RecordError for what is no such stream."""
        try:
            for chunk in chunks:
                self._buffer += chunk
                self._frames()
        finally:
            self._drop()

    def _frames(self) -> None:
        while True:
            if self._header is None:
                end = self._buffer.find(b"\n")
                if end < 0:
                    if len(self._buffer) > HEADER_BYTES:
                        raise RecordError("the stream of the record is broken: no header")
                    return
                self._header = _header(bytes(self._buffer[:end]))
                del self._buffer[: end + 1]
            size = self._header["bytes"]
            if len(self._buffer) < size:
                return
            data, header = bytes(self._buffer[:size]), self._header
            del self._buffer[:size]
            self._header = None
            self._apply(header, data)

    def _apply(self, header: Mapping[str, Any], data: bytes) -> None:
        if "lines" in header:
            if header.get("again"):
                self._copy.begin_again(header["lines"])
            self._copy.append(header["lines"], header["at"], data)
            if header["lines"] != JOURNAL:
                self._copy.refresh()
        elif "log" in header:
            self._copy.append_log(header["log"], header["at"], data)
        elif "file" in header:
            self._piece(header, data)
        elif "look" in header:
            self.over, self.complete = header["look"]["over"], header["look"]["complete"]
            if self.complete:
                self._copy.render()
                if self.over:
                    self._copy.note_whole()
            else:
                self._copy.refresh()

    def _piece(self, header: Mapping[str, Any], data: bytes) -> None:
        try:
            self._keep(header, data)
        except OSError as error:
            raise disk_error(self._copy.path / header["file"], error) from error

    def _keep(self, header: Mapping[str, Any], data: bytes) -> None:
        if header["at"] == 0:
            self._drop()
            self._part = self._copy.part()
            self._part.touch(mode=0o644)
        if self._part is None or self._part.stat().st_size != header["at"]:
            raise RecordError("the stream of the record is broken: a piece is missing")
        with self._part.open("ab") as file:
            file.write(data)
        if header["at"] + len(data) == header["of"]:
            self._copy.adopt(header["file"], self._part, header["mtime_ns"])
            self._part = None

    def _drop(self) -> None:
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header["bytes"] < 0:
            raise ValueError("negative")
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"the stream of the record is broken: expected a header, found {line[:80]!r}"
        ) from error
    return dict(header)
