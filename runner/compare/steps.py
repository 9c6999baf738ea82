"""What was carried out in a sandbox, in its order, out of the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

CELL, HIDDEN, SHELL, FILE, RESTART = "cell", "hidden", "shell", "file", "restart"
"""Kinds of steps."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation: a cell's execution (`cell` is its id), a hidden one, a command, a file.

    `source` is code, a command, or a file's content, None where no record has it. `state` is how
    it ended, "" where the journal ends before; `took_s` seconds.
    """

    kind: str
    source: str | None = None
    cell: str | None = None
    path: str = ""
    sha256: str = ""
    state: str = ""
    took_s: float = 0.0
    op: str = field(default="", compare=False)
    printed: Mapping[str, str] = field(default_factory=dict)
    """What a command printed, by stream; what came of cells is in the notebook."""


def steps(journal: Iterable[Line], transcript: Iterable[Line] = ()) -> list[Step]:
    """What was begun in a sandbox, in the order in which it was."""
    written = _written(transcript)
    found: dict[str, Step] = {}
    pieces: dict[str, dict[str, list[str]]] = {}
    began: dict[str, str] = {}
    asked: dict[str, Line] = {}
    for line in journal:
        op = str(line.get("op"))
        match line["type"]:
            case "queued":
                asked[op] = line
            case "start" if op in asked:
                cell = asked[op]["cell"]
                began[op] = line["time"]
                found[op] = Step(CELL if cell else HIDDEN, asked[op]["source"], cell, op=op)
            case "shell":
                began[op] = line["time"]
                found[op] = Step(SHELL, line["command"], op=op)
            case "shell_output" if op in found:
                streams = pieces.setdefault(op, {})
                streams.setdefault(line["stream"], []).append(line["text"])
            case "file":
                found[op] = Step(
                    FILE, written.get(op), path=line["path"], sha256=line["sha256"], state="ok"
                )
            case "boot" if found:  # another sandbox server, and another kernel
                found[f"restart {line['seq']}"] = Step(RESTART, state="ok")
            case "kernel" if line["event"] == "restarted":
                found[f"restart {line['seq']}"] = Step(RESTART, state="ok")
            case "end" if op in began:
                took = datetime.fromisoformat(line["time"]) - datetime.fromisoformat(began[op])
                took_s = max(took.total_seconds(), 0.0)
                found[op] = replace(found[op], state=line["state"], took_s=took_s)
    for op, streams in pieces.items():
        printed = {name: "".join(texts) for name, texts in streams.items()}
        found[op] = replace(found[op], printed=printed)
    return list(found.values())


def _written(transcript: Iterable[Line]) -> dict[str, str]:
    """By operation, what an agent wrote into a file: the sandbox's journal has its sum alone."""
    inputs: dict[str, Mapping[str, Any]] = {}
    found = {}
    for line in transcript:
        if line["type"] == "message":
            uses = [block for block in line["content"] if block.get("type") == "tool_use"]
            inputs |= {block["id"]: block["input"] for block in uses}
        elif line["type"] == "tool_result" and line["tool"] == "write_file":
            content = inputs.get(line["tool_use_id"], {}).get("content")
            if isinstance(content, str):
                found[str(line["op"])] = content
    return found
