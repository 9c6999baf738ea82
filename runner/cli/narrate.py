"""Lines of a record → what happened, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.agent.text import clean
from runner.cli.words import between, clock, count, seconds, size
from runner.phases import Phase
from runner.record.run import RunFold, RunState

Line = Mapping[str, Any]

MOST_KEPT = 20_000
"""Characters of a cell's output that are kept to be shown: half of its start, half of its end."""
JOURNALLED = frozenset(
    ("run_cell", "run_existing_cell", "run_shell", "add_markdown", "write_file", "delete_cell")
)
"""Tools that need no line of their own: the journal tells what they did, and how it went."""
_ENDS = {"ok": "done", "error": "failed", "kernel_died": "the kernel died", "lost": "lost"}


@dataclass(frozen=True)
class Entry:
    """Something that happened. `body` is further lines; `ok` is None where nothing could fail.

    `kind` is state, phase, says, asked, cell, shell, markdown, result, tool, file, score or note.
    """

    kind: str
    time: str
    title: str
    body: tuple[str, ...] = ()
    ok: bool | None = None

    @property
    def clock(self) -> str:
        """When, on the user's clock."""
        return clock(self.time)


@dataclass(frozen=True)
class Activity:
    """What goes on now, and since when."""

    words: str = ""
    since: str = ""


@dataclass
class _Running:
    """A cell or command that has been started."""

    title: str
    started: str
    head: str = ""
    tail: str = ""
    left_out: bool = False
    extra: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        half = MOST_KEPT // 2
        room = half - len(self.head)
        self.head += text[: max(room, 0)]
        self.tail += text[max(room, 0) :]
        if len(self.tail) > 2 * half:
            self.tail, self.left_out = self.tail[-half:], True

    def lines(self) -> tuple[str, ...]:
        gap = "\n…\n" if self.left_out else ""
        text = clean(self.head + gap + self.tail)
        return (*(line for line in text.rstrip("\n").split("\n") if text.strip()), *self.extra)


class Narrator:
    """Grows line by line; says what each line tells a reader, and what goes on now."""

    def __init__(self) -> None:
        self._run = RunFold()
        self._cells: dict[str, tuple[int, str]] = {}  # number and source, by the cell's id
        self._count = 0
        self._running: dict[str, _Running] = {}
        self._open_calls = 0
        self._phases = 0  # how many of them were told, and whether the last one's end was
        self._phase_open = False
        self._phase_words: set[str] = set()
        self._waits = False  # a state had a reason
        self.turn = 0
        self.now = Activity()

    @property
    def run(self) -> RunState:
        """What the transcript so far amounts to."""
        return self._run.state()

    def apply(self, file: str, line: Line) -> list[Entry]:
        """Take a line of the transcript or the journal; returns what it tells."""
        if file == "transcript":
            self._run.apply(line)
        step = getattr(self, f"_{file}_{line.get('type')}", None)
        return list(step(line)) if step else []

    def preparing(self, phases: Iterable[Phase]) -> list[Entry]:
        """Take what the backend knows of the sandbox's start; returns what is new in it."""
        told: list[Entry] = []
        known = list(phases)
        if len(known) < self._phases:
            self._phases, self._phase_open = 0, False  # another sandbox
        for number, phase in enumerate(known, 1):
            words = f"{phase.name} {phase.detail}".strip()
            if number > self._phases:
                self._phases, self._phase_open = number, True
                self._phase_words = {words}
                self.now = Activity(words, phase.started)
                told.append(Entry("phase", phase.started, words))
            elif number == self._phases and not phase.ended and words not in self._phase_words:
                self._phase_words.add(words)  # what it waits for has become known
                self.now = Activity(words, phase.started)
                told.append(Entry("phase", phase.started, words))
            if number == self._phases and self._phase_open and (phase.ended or phase.failure):
                self._phase_open = False
                took = seconds(between(phase.started, phase.ended))
                if not phase.failure:
                    self.now = Activity("starting the kernel", phase.ended or phase.started)
                    told.append(Entry("phase", phase.ended or "", f"{phase.name} took {took}"))
                elif not phase.ended:  # it is stuck
                    told.append(Entry("note", phase.started, f"{phase.name}: {phase.failure}"))
        return told

    # -- the transcript --------------------------------------------------------------------

    def _transcript_state(self, line: Line) -> Iterator[Entry]:
        state, reason = str(line["state"]), line.get("reason") or ""
        waits = {
            "preparing": "preparing the sandbox",
            "starting": "starting the kernel",
            "running": "the model thinks",
            "ending": "collecting what was made",
        }
        if state == "preparing" and self._phases:
            return  # its steps have been told, which say more
        words = waits.get(state, state)
        waited, self._waits = self._waits, bool(reason)
        if state == "running" and waited and not reason:
            self.now = Activity(words, line["time"])
            return  # what was waited for tells of itself
        self.now = Activity(reason or words if state == "running" else words, line["time"])
        yield Entry("state", line["time"], f"{state}: {reason}" if reason else state)

    def _transcript_attempt(self, line: Line) -> Iterator[Entry]:
        self._open_calls = 0
        if line.get("attempt", 1) > 1:
            yield Entry("note", line["time"], f"attempt {line['attempt']}: {line.get('reason')}")

    def _transcript_sandbox(self, line: Line) -> Iterator[Entry]:
        packages = count(len(line.get("packages") or []), "package")
        yield Entry("phase", line["time"], f"the kernel is ready: {packages}")

    def _transcript_message(self, line: Line) -> Iterator[Entry]:
        texts = [clean(b["text"]) for b in line["content"] if b.get("type") == "text"]
        body = tuple("\n".join(texts).strip().split("\n"))
        if line["role"] != "assistant":
            if line.get("by"):
                yield Entry("asked", line["time"], f"{line['by']} says", body)
            elif line["turn"] and any(texts):
                yield Entry("note", line["time"], body[0], body[1:])
            return
        self.turn = line["turn"]
        calls = [block for block in line["content"] if block.get("type") == "tool_use"]
        self._open_calls = len(calls)
        if any(text.strip() for text in texts):
            yield Entry("says", line["time"], f"turn {self.turn}", body)
        for call in calls:
            if call["name"] not in JOURNALLED:
                yield Entry("tool", line["time"], f"{call['name']} {_brief(call['input'])}".strip())
        if calls:
            self.now = Activity(calls[0]["name"], line["time"])

    def _transcript_tool_result(self, line: Line) -> Iterator[Entry]:
        self._open_calls -= 1
        if self._open_calls <= 0:
            self.now = Activity("the model thinks", line["time"])
        if line.get("is_error") and line.get("tool") not in JOURNALLED:
            texts = [b.get("text", "") for b in line["content"] if b.get("type") == "text"]
            words = clean("\n".join(texts)).strip().split("\n")
            yield Entry("note", line["time"], f"{line.get('tool')}: {words[0]}", tuple(words[1:]))

    def _transcript_retry(self, line: Line) -> Iterator[Entry]:
        words = f"asked again in {seconds(line.get('delay_s'))}: {line.get('reason')}"
        self.now = Activity(f"the model is {words}", line["time"])
        yield Entry("note", line["time"], f"the model is {words}")

    def _transcript_printed(self, line: Line) -> Iterator[Entry]:
        kind = "says" if line["stream"] == "stdout" else "note"
        body = tuple(clean(line["text"]).rstrip("\n").split("\n"))
        yield Entry(kind, line["time"], f"{line['program']} prints", body)

    def _transcript_request_failed(self, line: Line) -> Iterator[Entry]:
        words = f"the model's provider gave no reply: {line.get('reason')}"
        yield Entry("note", line["time"], words)

    def _transcript_outputs(self, line: Line) -> Iterator[Entry]:
        for file in line["files"]:
            yield Entry("file", line["time"], f"kept outputs/{file['path']}, {size(file['bytes'])}")

    def _transcript_score(self, line: Line) -> Iterator[Entry]:
        if line.get("error"):
            yield Entry("note", line["time"], f"no score: {line['error']}")
        else:
            yield Entry("score", line["time"], f"score {json.dumps(line.get('score'))}")

    def _transcript_end(self, line: Line) -> Iterator[Entry]:
        self.now = Activity("ending its processes", line["time"])
        words = f"{line['state']}: {line.get('reason') or ''}".rstrip(": ")
        yield Entry("state", line["time"], words, ok=line["state"] == "done")

    # -- the journal -----------------------------------------------------------------------

    def _journal_cell(self, line: Line) -> Iterator[Entry]:
        cell, action = line["cell"], line["action"]
        number, old = self._cells.get(cell, (0, ""))
        if action == "delete":
            yield Entry("note", line["time"], f"cell {number} is deleted")
        elif line.get("cell_type") == "markdown":
            yield Entry("markdown", line["time"], "markdown", _lines(line["source"]))
        elif action == "insert":
            self._count += 1
            self._cells[cell] = (self._count, line["source"])
        elif line["source"] != old:
            self._cells[cell] = (number, line["source"])
            yield Entry("note", line["time"], f"cell {number} is changed")

    def _journal_start(self, line: Line) -> Iterator[Entry]:
        if line.get("cell") in self._cells:
            number, source = self._cells[line["cell"]]
            yield from self._begin("cell", line, f"cell {number}", _lines(source))

    def _journal_shell(self, line: Line) -> Iterator[Entry]:
        command = _lines(line["command"])
        yield from self._begin("shell", line, f"$ {command[0] if command else ''}", command[1:])

    def _begin(self, kind: str, line: Line, title: str, body: tuple[str, ...]) -> Iterator[Entry]:
        self._running[line["op"]] = _Running(title, line["time"])
        self.now = Activity(title, line["time"])
        yield Entry(kind, line["time"], title, body)

    def _journal_message(self, line: Line) -> Iterator[Entry]:
        if running := self._running.get(line.get("op") or ""):
            content, kind = line["content"], line["msg_type"]
            if kind == "stream":
                running.add(content.get("text", ""))
            elif kind == "error":
                running.extra.append(clean(f"{content.get('ename')}: {content.get('evalue')}"))
            elif kind in ("execute_result", "display_data"):
                data = content.get("data", {})
                pictures = [f"[{name}]" for name in data if name.startswith("image/")]
                text = data.get("text/plain", "")
                running.extra += pictures or _lines(
                    text if isinstance(text, str) else "".join(text)
                )
        return iter(())

    def _journal_shell_output(self, line: Line) -> Iterator[Entry]:
        if running := self._running.get(line.get("op") or ""):
            running.add(line.get("text", ""))
        return iter(())

    def _journal_end(self, line: Line) -> Iterator[Entry]:
        running = self._running.pop(line.get("op") or "", None)
        if running is None:
            return
        state = line["state"]
        words = _ENDS.get(state, state)
        if line.get("exit"):
            words = f"ended with status {line['exit']}"
        reason = f" ({line['reason']})" if line.get("reason") and state != "ok" else ""
        took = seconds(between(running.started, line["time"]))
        title = running.title if running.title.startswith("cell") else "$"
        yield Entry(
            "result",
            line["time"],
            f"{title}: {words}{reason} after {took}",
            running.lines(),
            ok=state == "ok" and not line.get("exit"),
        )
        for other in self._running.values():
            self.now = Activity(other.title, other.started)

    def _journal_file(self, line: Line) -> Iterator[Entry]:
        yield Entry("file", line["time"], f"wrote {line['path']}, {size(line['bytes'])}")

    def _journal_kernel(self, line: Line) -> Iterator[Entry]:
        if line["event"] != "started":
            reason = f": {line['reason']}" if line.get("reason") else ""
            yield Entry("note", line["time"], f"the kernel {_event(line['event'])}{reason}")

    def _journal_warning(self, line: Line) -> Iterator[Entry]:
        yield Entry("note", line["time"], clean(line["text"]))


def _event(event: str) -> str:
    return "died" if event == "died" else f"was {event}"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(clean(text).strip("\n").split("\n"))


def _brief(given: Mapping[str, Any]) -> str:
    """A tool's input on one short line."""
    words = ", ".join(str(value) for value in given.values())
    words = " ".join(clean(words).split())
    return words if len(words) <= 80 else f"{words[:79]}…"
