"""Plays tool calls from a file: demos, tests, and smoke tests of a cluster without a key.

It has no state: the step to play is the number of assistant messages so far, so a
resumed run goes on where it was. A step's `expect` holds it to what really happened.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from runner.agent.providers.base import NO_USAGE, Block, Message, ProviderRefused, Reply
from runner.errors import ConfigError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Call(_Part):
    """A tool call."""

    name: str = Field(min_length=1)
    input: dict[str, Any] = {}


class Step(_Part):
    """One assistant message; one without tools ends the run."""

    text: str = ""
    tools: list[Call] = []
    expect: str | None = None

    @field_validator("expect")
    @classmethod
    def _is_regex(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Step:
        if not self.text.strip() and not self.tools:
            raise ValueError("`text` or `tools`")
        return self


class Script(_Part):
    """The whole file."""

    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _first_expects_nothing(self) -> Script:
        if self.steps[0].expect is not None:
            raise ValueError("no `expect` in the first step: there is no result yet")
        return self


def load(path: Path) -> list[dict[str, Any]]:
    """The steps of a script, as plain JSON, with every `source_file` read into `source`.

    Raises `ConfigError` with the file and the key.
    """
    try:
        data = json.loads(_read(path, str(path), "the script"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(file=str(path), key=where, expected="JSON", found=error.msg) from None
    try:
        script = Script.model_validate(data)
    except ValidationError as error:
        raise _config_error(path, error) from None
    steps = [step.model_dump(exclude_unset=True) for step in script.steps]
    for number, step in enumerate(steps):
        for position, call in enumerate(step.get("tools", ())):
            key = f"steps[{number}].tools[{position}].input"
            call["input"] = _resolved(call.get("input", {}), path, key)
    return steps


class Scripted:
    """Plays the steps that `load` returned."""

    model = "scripted"

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        """Take steps as `load` returns them, or as read back from a record."""
        self.steps = Script.model_validate({"steps": list(steps)}).steps

    def reply(
        self,
        *,
        system: str,  # noqa: ARG002 - a script does not listen
        messages: list[Message],
        tools: list[dict[str, Any]],  # noqa: ARG002 - nor choose; the loop refuses an unknown tool
        on_text: Callable[[str], None],
        on_retry: Callable[[str, float], None],  # noqa: ARG002 - nor fail for a while
        stopped: Callable[[], bool],  # noqa: ARG002 - nor take a moment
    ) -> Reply:
        """The step that is next; `ProviderRefused` where its `expect` does not match."""
        done = sum(message["role"] == "assistant" for message in messages)
        if done >= len(self.steps):
            step = Step(text=f"The script has ended: it has {len(self.steps)} steps.")
        else:
            step = self.steps[done]
        if step.expect is not None:
            _check(step.expect, done + 1, _results(messages[-1]))
        content: list[Block] = []
        if step.text.strip():
            on_text(step.text)
            content.append({"type": "text", "text": step.text})
        for position, call in enumerate(step.tools, 1):
            block = {"type": "tool_use", "id": f"toolu_script_{done + 1}_{position}"}
            content.append({**block, **call.model_dump()})
        return Reply(content, "tool_use" if step.tools else "end_turn", NO_USAGE, self.model)


def _check(expect: str, number: int, got: str) -> None:
    if re.search(expect, got, re.MULTILINE) is None:
        shown = got if len(got) <= 2_000 else f"{got[:1_000]}\n…\n{got[-1_000:]}"
        raise ProviderRefused(f"step {number} of the script expected {expect!r}, got:\n{shown}")


def _results(message: Message) -> str:
    """The text of the tool results in a message."""
    if isinstance(message["content"], str):
        return ""
    texts: list[str] = []
    for block in message["content"]:
        if block["type"] == "tool_result":
            content = block.get("content", "")
            parts = [{"text": content}] if isinstance(content, str) else content
            texts += [part["text"] for part in parts if "text" in part]
    return "\n".join(texts)


def _resolved(given: dict[str, Any], script: Path, key: str) -> dict[str, Any]:
    """An input whose `source` is one text, wherever it came from."""
    result = dict(given)
    if (name := result.pop("source_file", None)) is not None:
        if "source" in result or not isinstance(name, str):
            raise ConfigError(
                file=str(script), key=key, expected="either `source` or the path `source_file`"
            )
        result["source"] = _read(script.parent / name, str(script), f"{key}.source_file")
    source = result.get("source")
    if isinstance(source, list):
        if not all(isinstance(line, str) for line in source):
            raise ConfigError(file=str(script), key=f"{key}.source", expected="a list of lines")
        result["source"] = "\n".join(source)
    return result


def _read(path: Path, file: str, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        found = f"{path}: {error.strerror}"
    except UnicodeDecodeError:
        found = f"{path}: not UTF-8"
    raise ConfigError(file=file, key=key, expected="a text file", found=found)


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    key = key.lstrip(".") or "the script"
    if first["type"] == "extra_forbidden":
        known = sorted({*Script.model_fields, *Step.model_fields, *Call.model_fields})
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        return ConfigError(
            file=str(path),
            key=key,
            expected="a known key",
            hint=f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}",
        )
    if first["type"] == "value_error":
        return ConfigError(file=str(path), key=key, expected=str(first["ctx"]["error"]))
    return ConfigError(
        file=str(path), key=key, expected=first["msg"], found=repr(first["input"])[:80]
    )
