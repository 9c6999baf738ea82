"""What a model can do with a session. Knows nothing of the loop, nor of any provider."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from runner.agent import inputs, show
from runner.agent.observe import IMAGES as MOST_IMAGES_AT_ONCE
from runner.agent.observe import observe
from runner.agent.text import clean, page
from runner.config.sandbox import ExecutionMode
from runner.errors import OperationError, UsageError
from runner.session import LostOperation, Result, Session

MOST_LISTED = 500
IMAGES = 100
"""Images that a run's model is shown; later ones are told of in words."""
LARGEST_READ = 8 << 20
"""Bytes of a file that read_file looks at."""
GONE = "variables and running processes are gone; look at what is still there before you go on"
LOST = (
    "lost: the sandbox was replaced or restarted before this was answered. It is not run again by "
    f"itself; {GONE}"
)


@dataclass(frozen=True)
class Answer:
    """What the model gets back for a tool call; one with `is_error` holds text only."""

    content: list[dict[str, Any]]
    is_error: bool = False


def text(words: str, *, is_error: bool = False) -> Answer:
    """An answer in words."""
    return Answer([{"type": "text", "text": words or "[nothing]"}], is_error)


class Others(Protocol):
    """Tools that are not the sandbox's own."""

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each."""
        ...

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        """Call one; what goes wrong is told to the model in words."""
        ...


class Toolbox:
    """Calls tools on one session.

    `mode` says which of its own: none without one. `images_left` is how many images the model may
    still be shown. `others` are tools beside them.
    """

    def __init__(
        self,
        session: Session,
        mode: ExecutionMode | None,
        images_left: int = IMAGES,
        others: Sequence[Others] = (),
    ) -> None:
        self.session, self.images_left = session, images_left
        self.warnings: list[str] = []
        """The sandbox's, as they were heard beside the tools: each is told with the next answer."""
        self.notices: list[str] = []
        """Of whoever drives the agent: the same."""
        self._told: set[str] = set()
        cells: dict[str, tuple[type[inputs.Input], Callable[[Any, str], Answer]]] = {
            "run_cell": (inputs.RunCell, self._run_cell),
            "run_existing_cell": (inputs.RunExistingCell, self._run_existing_cell),
            "edit_cell": (inputs.EditCell, self._edit_cell),
            "replace_cell": (inputs.ReplaceCell, self._replace_cell),
            "delete_cell": (inputs.DeleteCell, self._delete_cell),
            "add_markdown": (inputs.AddMarkdown, self._add_markdown),
            "read_notebook": (inputs.ReadNotebook, self._read_notebook),
            "read_cell": (inputs.ReadCell, self._read_cell),
            "restart_kernel": (inputs.RestartKernel, self._restart_kernel),
        }
        common: dict[str, tuple[type[inputs.Input], Callable[[Any, str], Answer]]] = {
            "run_shell": (inputs.RunShell, self._run_shell),
            "wait": (inputs.Wait, self._wait),
            "interrupt": (inputs.Interrupt, self._interrupt),
            "read_file": (inputs.ReadFile, self._read_file),
            "write_file": (inputs.WriteFile, self._write_file),
            "list_files": (inputs.ListFiles, self._list_files),
        }
        self._tools = {
            None: {},
            ExecutionMode.CLI: common,
            ExecutionMode.NOTEBOOK: cells | common,
        }[mode]
        self._others = {tool["name"]: other for other in others for tool in other.definitions()}

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each tool, as the Messages API and MCP have them."""
        own = described({name: model for name, (model, _) in self._tools.items()})
        return own + [
            tool for other in dict.fromkeys(self._others.values()) for tool in other.definitions()
        ]

    def call(
        self,
        name: str,
        given: Mapping[str, Any],
        op: str,
        *,
        boot: str = "",
        longest_s: float = math.inf,
    ) -> Answer:
        """Call a tool; what goes wrong is told to the model in words.

        `op` is the operation id: a call that is repeated with it is done once.
        `boot` is the sandbox that it is meant for, if not the one that answers
        now. It waits for `longest_s` seconds at most, whatever was asked for.
        Raises SandboxUnreachable when the sandbox stays away.
        """
        if other := self._others.get(name):
            return self._warned_of(other.call(name, given, op))
        if name not in self._tools:
            known = ", ".join((*self._tools, *self._others))
            return text(f"there is no tool {name}; there are: {known}", is_error=True)
        model, run = self._tools[name]
        try:
            asked = inputs.validated(model, given)
        except UsageError as error:
            return text(f"{name} was not run: {error.message}", is_error=True)
        if (timeout := getattr(asked, "timeout", 0.0)) > longest_s:
            asked = asked.model_copy(update={"timeout": min(timeout, longest_s)})
        current = self.session.boot
        self.session.boot = boot or current
        try:
            return self._warned_of(run(asked, op))
        except LostOperation as error:
            current = error.boot
            return self._lost(error)
        except (OperationError, UsageError) as error:
            return text(error.message, is_error=True)
        finally:
            self.session.boot = current

    # -- cells -----------------------------------------------------------------------------

    def _run_cell(self, given: inputs.RunCell, op: str) -> Answer:
        return self._seen(self.session.run(given.source, timeout_s=given.timeout, op=op))

    def _run_existing_cell(self, given: inputs.RunExistingCell, op: str) -> Answer:
        return self._seen(self.session.run_cell(given.cell, timeout_s=given.timeout, op=op))

    def _wait(self, given: inputs.Wait, op: str) -> Answer:  # noqa: ARG002
        return self._seen(self.session.wait(given.execution, timeout_s=given.timeout))

    def _interrupt(self, given: inputs.Interrupt, op: str) -> Answer:  # noqa: ARG002
        return self._seen(self.session.interrupt(given.execution), fine=("ok", "interrupted"))

    def _run_shell(self, given: inputs.RunShell, op: str) -> Answer:
        return self._seen(self.session.shell(given.command, timeout_s=given.timeout, op=op))

    def _edit_cell(self, given: inputs.EditCell, op: str) -> Answer:
        return self._edited(self.session.edit_cell(given.cell, given.old, given.new, op=op))

    def _replace_cell(self, given: inputs.ReplaceCell, op: str) -> Answer:
        return self._edited(self.session.replace_cell(given.cell, given.source, op=op))

    def _delete_cell(self, given: inputs.DeleteCell, op: str) -> Answer:
        return self._edited(self.session.delete_cell(given.cell, op=op), "deleted ")

    def _add_markdown(self, given: inputs.AddMarkdown, op: str) -> Answer:
        return self._edited(self.session.add_markdown(given.source, op=op), "added ")

    def _restart_kernel(self, given: inputs.RestartKernel, op: str) -> Answer:  # noqa: ARG002
        result = self.session.restart(op=op)
        return text(result.reason) if result.state == "ok" else self._seen(result)

    def _read_notebook(self, given: inputs.ReadNotebook, op: str) -> Answer:  # noqa: ARG002
        return text(show.notebook_page(self.session.notebook(), given.page))

    def _read_cell(self, given: inputs.ReadCell, op: str) -> Answer:  # noqa: ARG002
        return text(page(show.whole_cell(self.session.notebook(), given.cell), given.part))

    # -- files -----------------------------------------------------------------------------

    def _read_file(self, given: inputs.ReadFile, op: str) -> Answer:  # noqa: ARG002
        data, whole = self.session.fetch(given.path, _beginning)
        try:
            words = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
        except UnicodeDecodeError as error:
            return text(
                f"{given.path} is no UTF-8 text (byte {error.start + 1:,} of "
                f"{'' if whole else 'more than '}{len(data):,}): read it with code",
                is_error=True,
            )
        shown = page(clean(words), given.part)
        if not whole:
            shown += f"\n[only the first {LARGEST_READ:,} bytes can be read like this]"
        return text(shown or "[the file is empty]")

    def _write_file(self, given: inputs.WriteFile, op: str) -> Answer:
        data = given.content.encode("utf-8", "replace")
        result = self.session.write_file(given.path, data, op=op)
        if result.state != "ok":
            return text(result.reason, is_error=True)
        return text(f"wrote {len(data):,} bytes to {given.path}")

    def _list_files(self, given: inputs.ListFiles, op: str) -> Answer:  # noqa: ARG002
        entries = self.session.tree(given.path, recursive=given.recursive)
        lines = [show.file_line(entry) for entry in entries[:MOST_LISTED]]
        if len(entries) > MOST_LISTED:
            lines.append(f"… {len(entries) - MOST_LISTED:,} more")
        return text("\n".join(lines) or "[the directory is empty]")

    # -- answers ---------------------------------------------------------------------------

    def _seen(self, result: Result, fine: tuple[str, ...] = ("ok",), more: str = "") -> Answer:
        seen = observe(
            result.outputs,
            state=result.state,
            reason=result.reason,
            execution=result.op,
            cell=result.cell or "",
            elapsed_s=result.elapsed_s,
            images_left=min(self.images_left, MOST_IMAGES_AT_ONCE),
        )
        self.images_left -= seen.images_used
        words = [*self._new(result.warnings), *([more] if more else [])]
        content = [*seen.content, *({"type": "text", "text": w} for w in words)]
        # The Messages API refuses an error with an image in it.
        failed = result.final and result.state not in fine
        return Answer(content, failed and not seen.images_used)

    def _edited(self, result: Result, what: str = "") -> Answer:
        if not result.final:
            return self._seen(result)
        if result.state != "ok":
            return text(result.reason, is_error=True)
        return text(f"{what}cell {result.cell}\n{result.diff}".strip())

    def _lost(self, error: LostOperation) -> Answer:
        if error.known is None:
            return text(LOST, is_error=True)
        return self._seen(error.known, more=f"[the sandbox was replaced or restarted: {GONE}]")

    def _warned_of(self, answer: Answer) -> Answer:
        words = [
            {"type": "text", "text": words} for words in self._new([*self.warnings, *self.notices])
        ]
        return Answer([*answer.content, *words], answer.is_error)

    def _new(self, warnings: Sequence[str]) -> list[str]:
        """Those that the model was not shown yet: the sandbox repeats them in every answer."""
        fresh = [warning for warning in warnings if warning not in self._told]
        self._told.update(fresh)
        return [f"[warning] {warning}" for warning in fresh]


def _beginning(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """As much of a file as is looked at, and whether that is all of it."""
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > LARGEST_READ:
            return data[:LARGEST_READ], False
    return data, True


def described(tools: Mapping[str, type[BaseModel]]) -> list[dict[str, Any]]:
    """Name, description, input schema of tools, whose inputs' docstrings say what they are for."""
    return [
        {
            "name": name,
            "description": " ".join((model.__doc__ or "").split()),
            "input_schema": _schema(model),
        }
        for name, model in tools.items()
    ]


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    made = model.model_json_schema()
    made.pop("description", None)
    made.pop("title", None)
    for field in made.get("properties", {}).values():
        field.pop("title", None)
    return made
