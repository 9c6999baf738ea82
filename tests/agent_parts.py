"""A plan, a record and a provider that is told what to say: what tests of the agent are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.agent.conversation import Conversation
from runner.agent.providers import Reply
from runner.config.experiment import Experiment
from runner.plan import RunPlan
from runner.prices import Price
from runner.record import Record, read_lines

USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 50,
}


def make_plan(
    run_id: str = "run-1",
    *,
    agent: dict[str, Any] | None = None,
    sandbox: dict[str, Any] | None = None,
    price: Price | None = None,
    **more: Any,
) -> RunPlan:
    experiment = Experiment.model_validate(
        {"name": "test", "task": "Add 1 and 1.", "agent": agent or {}, "sandbox": sandbox or {}}
    )
    return RunPlan(
        run_id=run_id,
        name="test",
        author="somebody",
        created="2026-01-01T00:00:00.000Z",
        backend="local",
        experiment=experiment,
        python="3.12.1",
        prepare_deadline_s=10,
        start_deadline_s=10,
        price=price,
        **more,
    )


def make_record(top: Path, plan: RunPlan, **options: Any) -> Record:
    return Record.create(top, plan.run_id, plan.record(), **options)


def transcript(record: Record) -> list[dict[str, Any]]:
    return [line for line, _ in read_lines(record.path / "transcript.jsonl")]


def of_type(record: Record, *types: str) -> list[dict[str, Any]]:
    return [line for line in transcript(record) if line["type"] in types]


def told(lines: Iterable[dict[str, Any]]) -> Conversation:
    conversation = Conversation()
    for line in lines:
        conversation.apply(line)
    return conversation


def words(line: dict[str, Any]) -> str:
    """The text of a transcript line's content."""
    return "\n".join(block["text"] for block in line["content"] if block["type"] == "text")


def call(name: str, id: str = "", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id or f"toolu_{name}", "name": name, "input": given}


def says(*blocks: str | dict[str, Any], stop: str = "", **more: Any) -> Reply:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    calls = any(block["type"] == "tool_use" for block in content)
    reply = Reply(content, stop or ("tool_use" if calls else "end_turn"), USAGE, "model-1")
    return replace(reply, **more)


class Playing:
    """A provider that gives these replies in turn; a callable one is called with the request."""

    def __init__(self, *replies: Reply | Callable[..., Reply]) -> None:
        self.replies = list(replies)
        self.asked: list[list[dict[str, Any]]] = []

    def reply(self, **request: Any) -> Reply:
        self.asked.append(request["messages"])
        reply = self.replies.pop(0)
        return reply if isinstance(reply, Reply) else reply(**request)
