"""What a session is told: where its sandbox is, and what became of an operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from runner.errors import SandboxLost


@dataclass(frozen=True)
class Endpoint:
    """Where a sandbox server answers, and the token it wants."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Result:
    """How far an operation is; `state` is final or "queued" or "running".

    `outputs` are nbformat outputs as far as they are; long streams are
    capped there, and whole in the journal.
    """

    op: str
    kind: str
    state: str
    final: bool
    reason: str = ""
    cell: str | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    execution_count: int | None = None
    exit: int | None = None
    diff: str = ""
    started: str | None = None
    ended: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def elapsed_s(self) -> float | None:
        """Seconds it has run, or ran; None if it has not started."""
        if self.started is None:
            return None
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        # A clock that was set back would have it run for less than no time.
        return max((end - datetime.fromisoformat(self.started)).total_seconds(), 0.0)

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The text of all streams, and of results and errors, in their order."""
        parts = []
        for output in self.outputs:
            if output["output_type"] == "stream":
                parts.append(output["text"])
            elif output["output_type"] == "error":
                parts.append("\n".join(output["traceback"]))
            else:
                parts.append(output["data"].get("text/plain", ""))
        return "".join(part if isinstance(part, str) else "".join(part) for part in parts)


class LostOperation(SandboxLost):
    """The sandbox that was asked is gone; `boot` answers now, `known` is what it knows."""

    def __init__(self, message: str, boot: str, known: Result | None) -> None:
        super().__init__(message)
        self.boot, self.known = boot, known


def words_of(response: httpx.Response) -> str:
    """Why the server refused."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or str(response.status_code)


def result_of(answer: dict[str, Any]) -> Result:
    """What the server said of an operation."""
    return Result(
        op=answer["id"],
        kind=answer["kind"],
        state=answer["state"],
        final=answer["final"],
        reason=answer["reason"],
        cell=answer["cell"],
        outputs=answer.get("outputs", []),
        execution_count=answer["execution_count"],
        exit=answer["exit"],
        diff=answer["result"].get("diff", ""),
        started=answer["started"],
        ended=answer["ended"],
        warnings=tuple(answer.get("warnings", ())),
    )
