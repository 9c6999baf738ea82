"""Interfaces that are served: called by this process, for a model or for another sandbox."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from runner.agent.text import shorten
from runner.agent.tools import Answer, text
from runner.api.driven import DrivenRun, say
from runner.api.stubs import input_schema
from runner.errors import OperationError, RunnerError
from runner.serving import wire
from runner.session import Asked, Channel, Session

PLACE = ".serving"
"""Where it is in the workspace that an interface is put."""
DESCRIBE = "$describe"
"""What is called to be told of the functions that there are."""
DESCRIBED_S = 60.0
"""How long an interface that is served already may take to tell of its functions."""
AT_ONCE = 64
"""Calls of one library that are passed on at a time."""
SHOWN = 12_000
"""Characters of a result that a model is shown."""


@dataclass(eq=False)
class Served:
    """An interface in a sandbox, imported; `functions` are as `worker.describe` tells of them."""

    name: str
    session: Session
    channel: Channel
    driven: DrivenRun | None = None
    """Its run, where this process drives it."""
    functions: Sequence[Mapping[str, Any]] = ()
    entry: Mapping[str, Any] = field(default_factory=dict)
    """What `mcp_config` has of it, where it is served as tools."""

    def describe(self, deadline: float) -> None:
        """Wait until it is imported; raises TimeoutError, and OperationError where it is not."""
        for _, value in self._lines({"function": DESCRIBE}, deadline):
            self.functions = value

    def gone(self, error: Exception) -> str:
        """Why it cannot be called: what its server says, else that this is gone."""
        if isinstance(error, OperationError):
            return error.message
        return f"the sandbox that serves {self.name} has ended"

    def call(self, name: str, given: Mapping[str, Any], call: str) -> tuple[str, Any]:
        """The last line of the answer, with all that was yielded as a list.

        ("return", value) or ("raise", what was raised), plain. `call` is its id.
        """
        by_place = [
            parameter["name"]
            for function in self.functions
            if function["name"] == name
            for parameter in function["parameters"]
            if parameter["kind"] == "POSITIONAL_ONLY" and parameter["name"] in given
        ]
        asked = {
            "function": name,
            "args": [given[key] for key in by_place],
            "kwargs": {key: value for key, value in given.items() if key not in by_place},
        }
        items, last = [], ("return", None)
        for kind, value in self._lines(asked, call=call):
            if kind == "item":
                items.append(value)
            else:
                last = (kind, value)
        return last if not items or last[0] == "raise" else ("return", items)

    def _lines(
        self, asked: Mapping[str, Any], deadline: float | None = None, call: str | None = None
    ) -> Iterator[tuple[str, Any]]:
        rest, began = b"", time.monotonic()
        for data, _ in self.channel.call(call or uuid.uuid4().hex, json.dumps(asked).encode()):
            if not data and deadline is not None:
                if time.monotonic() > deadline:
                    raise TimeoutError
                say(f"{self.name} is still being imported, {time.monotonic() - began:.0f} s so far")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                kind, value = json.loads(line)
                yield kind, wire.plain(value)


def find(session: Session, name: str) -> Served:
    """An interface that is served in a sandbox; raises OperationError where it is not."""
    served = Served(name, session, Channel(session, name))
    served.describe(time.monotonic() + DESCRIBED_S)
    return served


class ServedTools:
    """The functions of an interface as tools of a model."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._names = {f"mcp__{served.name}__{one['name']}": one for one in served.functions}

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each."""
        return [
            {
                "name": name,
                "description": function["doc"] or function["name"],
                "input_schema": input_schema(function),
            }
            for name, function in self._names.items()
        ]

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        """What the function returns, as text; the same `op` again is the same call."""
        try:
            kind, value = self._served.call(self._names[name]["name"], given, op)
            # Its record knows the secrets of another sandbox only.
            value = self._served.session.masked(value)
        except (RunnerError, RuntimeError) as error:
            return text(f"{name} cannot be called: {self._served.gone(error)}", is_error=True)
        if kind == "raise":
            return text(f"{value['type']}: {value['message']}", is_error=True)
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text(shorten(words, SHOWN))


class Relay:
    """Passes calls of a library in one sandbox on to where its functions are served."""

    def __init__(self, source: Channel, served: Served) -> None:
        self._source, self._served = source, served
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def _run(self) -> None:
        number = 0
        with ThreadPoolExecutor(AT_ONCE, "relay") as pool:
            while True:
                try:
                    asked = self._source.next(number)
                except (RunnerError, RuntimeError):  # closed, or its sandbox has ended
                    return
                if asked:
                    number = asked.number
                    pool.submit(self._pass_on, asked)

    def _pass_on(self, asked: Asked) -> None:
        part = 0
        try:
            for data, end in self._served.channel.call(asked.id, asked.body):
                if data or end:
                    part += 1
                    self._source.answer(asked.id, part, data, end=end)
        except (RunnerError, RuntimeError) as error:
            self._give_up(asked, part + 1, error)

    def _give_up(self, asked: Asked, part: int, error: Exception) -> None:
        words = self._served.gone(error)
        said = {
            "type": "ConnectionError",
            "module": "builtins",
            "arguments": [words],
            "message": words,
        }
        # After a line that may have broken off.
        line = b"\n" + json.dumps(["raise", said]).encode() + b"\n"
        try:
            self._source.answer(asked.id, part, line, end=True)
        except (RunnerError, RuntimeError):  # nobody waits for it
            return


def watch(session: Session, channel: Channel, op: str) -> None:
    """Tell who calls, at once, that the process that serves them has ended."""
    try:
        result = session.wait(op, timeout_s=0)
        while not result.final:
            result = session.wait(op)
        # What it printed is in its own record: who calls is to see nothing of it but functions.
        channel.close(f"the process that serves {channel.name} has ended (status {result.exit})")
    except (RunnerError, RuntimeError):  # the sandbox has ended, or the session was closed
        return


SERVED: list[Served] = []
"""All that this process serves."""
