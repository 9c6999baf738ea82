"""run.json: what the lines of a transcript amount to. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from runner.errors import RecordError
from runner.record.chain import NO_LINE

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
SILENT_S = 180.0
"""An agent with GPUs that are ready writes a line every minute: after so long it was gone, and
whoever writes the run's end then, perhaps days later, had no GPU."""
NO_GPUS = {"count": 0, "held_s": 0.0, "used_s": 0.0, "source": ""}
ENDED = ("done", "failed", "bound", "timeout", "cancelled", "interrupted")
"""The states in which a run can end."""


@dataclass(frozen=True)
class RunState:
    """Everything that run.json says. Times are ISO 8601 in UTC, durations seconds.

    `phases` are the run's own states and, with `of` = "sandbox", the steps of
    each sandbox's start. `cost_usd` sums what is known: None where no price
    is or nobody counts, and too little by `unpriced_turns` turns otherwise. Each of `outputs`
    has the number of the transcript `line` that named it last. `gpus` counts
    GPU seconds: those held up to the last line, and those used of them.
    """

    schema: int = 1
    run_id: str = ""
    name: str = ""
    backend: str = ""
    author: Any = None
    provider: str = ""
    model: str = ""
    state: str = ""
    reason: str = ""
    bound: str | None = None
    exit_status: int | None = None
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    phases: list[dict[str, Any]] = field(default_factory=list)
    turns: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    cost_usd: float | None = 0.0
    unpriced_turns: int = 0
    attempts: int = 0
    retries: int = 0
    sandboxes: list[dict[str, Any]] = field(default_factory=list)
    repos: list[dict[str, Any]] = field(default_factory=list)
    python: str = ""
    packages: list[str] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)
    score: Any = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    gpus: dict[str, Any] = field(default_factory=lambda: dict(NO_GPUS))
    journal: dict[str, Any] = field(default_factory=lambda: {"lines": 0, "head": NO_LINE})
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether it came to an end; one whose processes died may not have."""
        return self.state in ENDED


_FIELDS = frozenset(item.name for item in fields(RunState))


def fold(lines: Iterable[Mapping[str, Any]]) -> RunState:
    """Say what these transcript lines amount to."""
    run = RunFold()
    for line in lines:
        run.apply(line)
    return run.state()


def to_json(state: RunState) -> str:
    """Write the text of run.json."""
    return json.dumps(asdict(state), indent=2) + "\n"


def from_json(text: str | bytes) -> RunState:
    """Read run.json, an older or newer one too; raises ValueError where it is none."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return RunState(**{key: value for key, value in found.items() if key in _FIELDS})


class RunFold:
    """A RunState that grows line by line; unknown types of line change nothing."""

    def __init__(self) -> None:
        """Start before the first line."""
        self._lines = 0
        self._now = RunState()
        self._last_state = ""
        self._heard: datetime | None = None
        """When the last line was written."""
        self._held = False
        """Whether an attempt has the GPUs."""

    def state(self) -> RunState:
        """Say what the lines so far amount to."""
        return self._now

    def apply(self, line: Mapping[str, Any]) -> None:
        """Take one more line of the transcript; RecordError where it is malformed."""
        self._lines += 1
        step = getattr(self, f"_on_{line.get('type')}", None)
        try:
            change = step(line) if step else {}
            gpus = change.get("gpus", self._now.gpus)
            if gpus["count"]:
                change["gpus"] = self._with_time(gpus, line)
            if change:
                self._now = RunState(**(self._now.__dict__ | change))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"transcript line {self._lines}: is no line of type {line.get('type')}: {error!r}"
            ) from error

    def _on_run(self, line: Mapping[str, Any]) -> dict[str, Any]:
        plan = line.get("plan") or {}
        agent = (plan.get("experiment") or {}).get("agent") or {}
        return {
            "run_id": line.get("run_id", ""),
            "name": plan.get("name", ""),
            "cost_usd": None if agent.get("provider") == "none" else 0.0,
            "backend": plan.get("backend", ""),
            "author": plan.get("author"),
            "provider": agent.get("provider", ""),
            "model": agent.get("model", ""),
            "created": line.get("time"),
            "state": "created",
            "repos": list(plan.get("repos") or []),
            "packages": list(plan.get("packages") or []),
            "versions": dict(plan.get("versions") or {}),
            "plan": plan,
            "gpus": NO_GPUS | {"count": _gpus(plan)},
        }

    def _on_conversation(self, line: Mapping[str, Any]) -> dict[str, Any]:
        agent = line.get("agent") or {}
        return {"provider": agent.get("provider", ""), "model": agent.get("model") or ""}

    def _on_state(self, line: Mapping[str, Any]) -> dict[str, Any]:
        name, time = line.get("state", ""), line.get("time")
        self._last_state = name
        return {
            "state": name,
            "reason": line.get("reason") or "",
            "bound": None,
            "exit_status": None,
            "started": self._now.started or (time if name == "running" else None),
            "ended": None,
            "phases": [*self._closed(time), _phase("run", name, time, None)],
        }

    def _on_attempt(self, line: Mapping[str, Any]) -> dict[str, Any]:
        change: dict[str, Any] = {"attempts": self._now.attempts + 1}
        if line.get("plan"):
            change["plan"] = line["plan"]
        if self._now.is_over:
            change |= {
                "state": self._last_state or "created",
                "reason": line.get("reason") or "",
                "bound": None,
                "exit_status": None,
                "ended": None,
            }
        return change

    def _on_sandbox(self, line: Mapping[str, Any]) -> dict[str, Any]:
        steps = [
            _phase("sandbox", step.get("name", ""), step.get("started"), step.get("ended"))
            for step in line.get("phases") or []
        ]
        sandbox = {"boot": line.get("boot"), "kernel": line.get("kernel"), "time": line.get("time")}
        opened = [phase for phase in self._now.phases if phase["ended"] is None]
        closed = [phase for phase in self._now.phases if phase["ended"] is not None]
        return {
            "sandboxes": [*self._now.sandboxes, sandbox],
            "phases": [*closed, *steps, *opened],
            "python": line.get("python") or self._now.python,
            "packages": list(line.get("packages") or self._now.packages),
            "versions": self._now.versions | (line.get("versions") or {}),
        }

    def _on_message(self, line: Mapping[str, Any]) -> dict[str, Any]:
        if line.get("role") != "assistant":
            return {}
        usage, cost, before = line.get("usage") or {}, line.get("cost_usd"), self._now
        unpriced = before.unpriced_turns + (cost is None)
        known = (before.cost_usd or 0.0) + (cost or 0.0)
        return {
            "model": line.get("model") or before.model,
            "turns": before.turns + 1,
            "tokens": {kind: before.tokens[kind] + (usage.get(kind) or 0) for kind in TOKENS},
            "unpriced_turns": unpriced,
            "cost_usd": known if unpriced <= before.turns else None,
        }

    def _on_tool_result(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return {"journal": line.get("journal") or self._now.journal}

    def _on_retry(self, _line: Mapping[str, Any]) -> dict[str, Any]:
        return {"retries": self._now.retries + 1}

    def _on_outputs(self, line: Mapping[str, Any]) -> dict[str, Any]:
        files = {file["path"]: file for file in self._now.outputs}
        for file in line.get("files") or []:
            files[file["path"]] = {**file, "line": self._lines}
        return {"outputs": [files[path] for path in sorted(files)]}

    def _on_score(self, line: Mapping[str, Any]) -> dict[str, Any]:
        error = line.get("error")
        return {"score": {"error": error} if error else line.get("score")}

    def _on_gpus(self, line: Mapping[str, Any]) -> dict[str, Any]:
        found = {key: line[key] for key in ("used_s", "source")}
        return {"gpus": self._now.gpus | found}

    def _on_end(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "state": line.get("state", ""),
            "reason": line.get("reason") or "",
            "bound": line.get("bound"),
            "exit_status": line.get("exit_status"),
            "ended": line.get("time"),
            "phases": self._closed(line.get("time")),
            "journal": line.get("journal") or self._now.journal,
        }

    def _with_time(self, gpus: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
        """With the time up to this line: each attempt counts from its place's begin to its last."""
        time, kind = datetime.fromisoformat(line["time"]), line["type"]
        since = self._heard if self._held else time
        if kind == "attempt":
            begun = datetime.fromisoformat(line.get("since") or line["time"])
            since = max(begun, self._heard or begun)
        spent_s = max((time - (since or time)).total_seconds(), 0.0)
        if self._now.state == "running" and kind != "attempt":
            spent_s = min(spent_s, SILENT_S)
        self._held = kind == "attempt" or (self._held and kind != "end")
        self._heard = time
        return {**gpus, "held_s": round(gpus["held_s"] + gpus["count"] * spent_s, 3)}

    def _closed(self, time: str | None) -> list[dict[str, Any]]:
        """All phases so far, the one that went on until `time` ended."""
        return [
            phase
            if phase["ended"] or phase["of"] != "run"
            else _phase("run", phase["name"], phase["started"], time)
            for phase in self._now.phases
        ]


def _gpus(plan: Mapping[str, Any]) -> int:
    asked = (plan.get("experiment") or {}).get("sandbox") or {}
    return int(asked.get("gpu_count", 1)) if asked.get("gpu") else 0


def _phase(of: str, name: str, started: str | None, ended: str | None) -> dict[str, Any]:
    return {
        "of": of,
        "name": name,
        "started": started,
        "ended": ended,
        "seconds": _seconds(started, ended),
    }


def _seconds(started: str | None, ended: str | None) -> float | None:
    try:
        parsed = [datetime.fromisoformat(str(time)) for time in (started, ended)]
        return round((parsed[1] - parsed[0]).total_seconds(), 3)
    except (TypeError, ValueError):
        return None
