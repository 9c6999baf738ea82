"""One output: a kernel message in nbformat's shape, and the JSON it is written as."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.notebook.streams import StreamText

if TYPE_CHECKING:
    from runner.notebook.cell import Cell

_SURROGATE = re.compile("[\ud800-\udfff]")
_DEPTH = 100  # the JSON encoder recurses; what is nested deeper is written as its repr
_SPLIT = {"application/javascript", "image/svg+xml"}  # nbformat writes these as lines, as text/*

DATA_MESSAGES = ("display_data", "execute_result")


def clean(value: Any, depth: int = 0) -> Any:
    """Make the value strict JSON in UTF-8: no lone surrogates, no NaN, no abysses."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict | list) and depth > _DEPTH:
        return f"… a {type(value).__name__} nested deeper than {_DEPTH} levels …"
    if isinstance(value, dict):
        return {clean(str(key)): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    return value


def text_of(value: Any) -> str:
    """Take a string as it is, anything else as JSON: the schema wants text here."""
    return str(clean(value)) if isinstance(value, str) else json.dumps(clean(value))


def output_from(msg_type: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Make what `nbformat.v4.output_from_msg` makes of a display, a result or an error.

    A kernel runs code that nobody trusts: parts of the wrong type are mended,
    so that the notebook stays valid.
    """
    if msg_type == "error":
        lines = content.get("traceback")
        return {
            "output_type": "error",
            "ename": text_of(content.get("ename", "")),
            "evalue": text_of(content.get("evalue", "")),
            "traceback": [text_of(x) for x in lines] if isinstance(lines, list) else [],
        }
    output = {"output_type": msg_type} | data_of(content)
    if msg_type == "execute_result":
        output["execution_count"] = count_of(content.get("execution_count"))
    return output


def data_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Take the `data` and `metadata` of a display, a result or an update of one."""
    data, metadata = content.get("data"), content.get("metadata")
    return {
        "data": {
            clean(mime): clean(item) if _is_json(mime) else _bundle_text(item)
            for mime, item in (data.items() if isinstance(data, dict) else ())
        },
        "metadata": clean(metadata) if isinstance(metadata, dict) else {},
    }


def count_of(value: Any) -> int | None:
    """Take an execution count as the schema allows it."""
    return value if type(value) is int and value >= 0 else None


def dump(value: Any, depth: int) -> str:
    """JSON as nbformat writes it, for a place `depth` levels inside the notebook."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


class Output:
    """One output of a cell: a dict of nbformat's, or a stream that still grows."""

    __slots__ = ("_dict", "_json", "cell", "display_id", "first", "last", "name", "stream")

    def __init__(self, cell: Cell, seq: int, output: dict[str, Any], display_id: str = "") -> None:
        """`seq` is the journal line; a stream's text comes by `write`."""
        self.cell = cell
        self.first = self.last = seq
        self.display_id = display_id
        self.name: str = output["name"] if output["output_type"] == "stream" else ""
        self.stream = StreamText() if self.name else None
        self._dict = output
        self._json: bytes | None = None

    def write(self, text: str, seq: int) -> None:
        """Let the stream grow."""
        assert self.stream is not None  # noqa: S101 - the fold asks for `name` first
        self.stream.write(text, seq)
        self.last, self._json = seq, None

    def update(self, parts: dict[str, Any]) -> None:
        """Show other data (`update_display_data`)."""
        self._dict, self._json = self._dict | parts, None

    @property
    def is_error(self) -> bool:
        """Whether the kernel sent it as an exception."""
        return bool(self._dict["output_type"] == "error")

    def as_dict(self) -> dict[str, Any]:
        """Give the output in memory, as nbformat has it: text in one piece."""
        return self._dict | {"text": self.stream.text()} if self.stream is not None else self._dict

    def size(self) -> int:
        """Characters of a stream, bytes of anything else."""
        return len(self.stream) if self.stream is not None else len(self.json())

    def json(self) -> bytes:
        """Write the output as it stands in the file; made anew only after a change."""
        if self._json is None:
            output = self.as_dict()
            if self.stream is not None:
                output["text"] = output["text"].splitlines(True)
            elif "data" in output:
                output = output | {"data": _split(output["data"])}
            self._json = b"\n    " + dump(output, 4).encode()
        return self._json


def _is_json(mime: str) -> bool:
    return mime == "application/json" or (
        mime.startswith("application/") and mime.endswith("+json")
    )


def _bundle_text(value: Any) -> str | list[str]:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return [text_of(line) for line in value]
    return text_of(value)


def _split(data: dict[str, Any]) -> dict[str, Any]:
    return {
        mime: item.splitlines(True)
        if isinstance(item, str) and (mime.startswith("text/") or mime in _SPLIT)
        else item
        for mime, item in data.items()
    }
