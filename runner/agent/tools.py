"""What a model can do with a session. Knows nothing of the loop, nor of any provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.agent.observe import as_text, observe
from runner.agent.text import clean, page, shorten
from runner.config import ExecutionMode
from runner.errors import OperationError, UsageError
from runner.session import Result, Session
from runner.session.client import LostOperation

LONGEST_WAIT_S = 3600.0
MOST_LISTED = 500
IMAGES = 100
"""Images that a run's model is shown; later ones are told of in words."""


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunCell(_Input):
    """Append a code cell to the notebook and run it in the kernel. Returns its outputs, or after
    `timeout` seconds "still running" with an execution id: the cell then goes on; use `wait`."""  # noqa: D205, D209

    source: str
    timeout: float = Field(default=120.0, gt=0, le=LONGEST_WAIT_S, description="seconds")


class RunExistingCell(_Input):
    """Run a cell of the notebook again, for example after an edit."""

    cell: str = Field(description="id of the cell")
    timeout: float = Field(default=120.0, gt=0, le=LONGEST_WAIT_S, description="seconds")


class Wait(_Input):
    """Wait for a cell or shell command that was "still running", and see its outputs so far."""

    execution: str
    timeout: float = Field(default=120.0, gt=0, le=LONGEST_WAIT_S, description="seconds")


class Interrupt(_Input):
    """Interrupt a cell or shell command that is running."""

    execution: str


class EditCell(_Input):
    """Replace text in a cell, where it must occur exactly once. Returns a diff. Does not run it."""

    cell: str = Field(description="id of the cell")
    old: str = Field(min_length=1)
    new: str


class ReplaceCell(_Input):
    """Give a cell a new source. Returns a diff. Does not run it."""

    cell: str = Field(description="id of the cell")
    source: str


class DeleteCell(_Input):
    """Delete a cell from the notebook."""

    cell: str = Field(description="id of the cell")


class AddMarkdown(_Input):
    """Append a markdown cell to the notebook."""

    source: str


class ReadNotebook(_Input):
    """Read the notebook a page at a time: cells with their ids, sources and outputs, shortened."""

    page: int = Field(default=1, ge=1)


class ReadCell(_Input):
    """Read one cell whole, a part at a time."""

    cell: str = Field(description="id of the cell")
    part: int = Field(default=1, ge=1)


class RestartKernel(_Input):
    """Kill the kernel and start a new one. All variables are lost; files and the notebook stay."""


class RunShell(_Input):
    """Run a shell command in the workspace. Returns its output, or "still running" with an id."""

    command: str
    timeout: float = Field(default=120.0, gt=0, le=LONGEST_WAIT_S, description="seconds")


class ReadFile(_Input):
    """Read a text file of the workspace, a part at a time."""

    path: str = Field(description="relative to the workspace")
    part: int = Field(default=1, ge=1)


class WriteFile(_Input):
    """Write a text file of the workspace. What is to be kept goes into outputs/."""

    path: str = Field(description="relative to the workspace")
    content: str


class ListFiles(_Input):
    """List a directory of the workspace."""

    path: str = "."
    recursive: bool = False


Content = list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What the model gets back for a tool call."""

    content: Content
    is_error: bool = False


def text(words: str, *, is_error: bool = False) -> Answer:
    """An answer in words."""
    return Answer([{"type": "text", "text": words or "[nothing]"}], is_error)


class Toolbox:
    """Calls tools on one session.

    `images_left` is how many images the model may still be shown; `boot` is
    the boot of the sandbox that the calls are meant for.
    """

    def __init__(self, session: Session, mode: ExecutionMode, images_left: int = IMAGES) -> None:
        self.session, self.images_left = session, images_left
        cells: dict[str, tuple[type[_Input], Callable[[Any, str], Answer]]] = {
            "run_cell": (RunCell, self._run_cell),
            "run_existing_cell": (RunExistingCell, self._run_existing_cell),
            "edit_cell": (EditCell, self._edit_cell),
            "replace_cell": (ReplaceCell, self._replace_cell),
            "delete_cell": (DeleteCell, self._delete_cell),
            "add_markdown": (AddMarkdown, self._add_markdown),
            "read_notebook": (ReadNotebook, self._read_notebook),
            "read_cell": (ReadCell, self._read_cell),
            "restart_kernel": (RestartKernel, self._restart_kernel),
        }
        common: dict[str, tuple[type[_Input], Callable[[Any, str], Answer]]] = {
            "run_shell": (RunShell, self._run_shell),
            "wait": (Wait, self._wait),
            "interrupt": (Interrupt, self._interrupt),
            "read_file": (ReadFile, self._read_file),
            "write_file": (WriteFile, self._write_file),
            "list_files": (ListFiles, self._list_files),
        }
        self._tools = common if mode is ExecutionMode.CLI else cells | common

    def definitions(self) -> list[dict[str, Any]]:
        """Name, description, input schema of each tool, as the Messages API and MCP have them."""
        return [
            {
                "name": name,
                "description": " ".join((model.__doc__ or "").split()),
                "input_schema": _schema(model),
            }
            for name, (model, _) in self._tools.items()
        ]

    def call(self, name: str, given: Mapping[str, Any], op: str) -> Answer:
        """Call a tool; what goes wrong is told to the model in words.

        `op` is the operation id: a call that is repeated with it is done once.
        Raises SandboxUnreachable when the sandbox stays away.
        """
        if name not in self._tools:
            return text(
                f"there is no tool {name}; there are {', '.join(self._tools)}", is_error=True
            )
        model, run = self._tools[name]
        try:
            return run(model.model_validate(given), op)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in error.errors()
            )
            return text(f"{name} was not run: {problems}", is_error=True)
        except LostOperation as error:
            return self._lost(error)
        except (OperationError, UsageError) as error:
            return text(error.message, is_error=True)

    # -- cells -----------------------------------------------------------------------------

    def _run_cell(self, given: RunCell, op: str) -> Answer:
        return self._observed(self.session.run(given.source, timeout_s=given.timeout, op=op))

    def _run_existing_cell(self, given: RunExistingCell, op: str) -> Answer:
        return self._observed(self.session.run_cell(given.cell, timeout_s=given.timeout, op=op))

    def _wait(self, given: Wait, op: str) -> Answer:  # noqa: ARG002
        return self._observed(self.session.wait(given.execution, timeout_s=given.timeout))

    def _interrupt(self, given: Interrupt, op: str) -> Answer:  # noqa: ARG002
        return self._observed(self.session.interrupt(given.execution))

    def _run_shell(self, given: RunShell, op: str) -> Answer:
        return self._observed(self.session.shell(given.command, timeout_s=given.timeout, op=op))

    def _edit_cell(self, given: EditCell, op: str) -> Answer:
        return _edited(self.session.edit_cell(given.cell, given.old, given.new, op=op))

    def _replace_cell(self, given: ReplaceCell, op: str) -> Answer:
        return _edited(self.session.replace_cell(given.cell, given.source, op=op))

    def _delete_cell(self, given: DeleteCell, op: str) -> Answer:
        return _edited(self.session.delete_cell(given.cell, op=op))

    def _add_markdown(self, given: AddMarkdown, op: str) -> Answer:
        return _edited(self.session.add_markdown(given.source, op=op))

    def _restart_kernel(self, given: RestartKernel, op: str) -> Answer:  # noqa: ARG002
        return _edited(self.session.restart(op=op))

    def _read_notebook(self, given: ReadNotebook, op: str) -> Answer:  # noqa: ARG002
        return text(page("\n\n".join(map(_summary, self._cells())), given.page))

    def _read_cell(self, given: ReadCell, op: str) -> Answer:  # noqa: ARG002
        for cell in self._cells():
            if cell["id"] == given.cell:
                whole = f"{_source(cell)}\n--- outputs ---\n{as_text(cell.get('outputs', []))}"
                return text(page(whole, given.part))
        return text(f"there is no cell {given.cell}", is_error=True)

    # -- files -----------------------------------------------------------------------------

    def _read_file(self, given: ReadFile, op: str) -> Answer:  # noqa: ARG002
        data = self.session.read_file(given.path)
        try:
            return text(page(clean(data.decode()), given.part))
        except UnicodeDecodeError:
            return text(f"{given.path} is no text: {len(data):,} bytes", is_error=True)

    def _write_file(self, given: WriteFile, op: str) -> Answer:
        data = given.content.encode("utf-8", "replace")
        result = self.session.write_file(given.path, data, op=op)
        if result.state != "ok":
            return text(result.reason, is_error=True)
        return text(f"wrote {len(data):,} bytes to {given.path}")

    def _list_files(self, given: ListFiles, op: str) -> Answer:  # noqa: ARG002
        entries = self.session.tree(given.path, recursive=given.recursive)
        lines = [
            f"{entry['path']}/"
            if entry["type"] == "directory"
            else f"{entry['path']}  {entry['bytes']:,}"
            for entry in entries[:MOST_LISTED]
        ]
        if len(entries) > MOST_LISTED:
            lines.append(f"… {len(entries) - MOST_LISTED} more")
        return text("\n".join(lines) or "[empty]")

    # -- answers ---------------------------------------------------------------------------

    def _observed(self, result: Result) -> Answer:
        seen = observe(
            result.outputs,
            state=result.state,
            reason=result.reason,
            execution=result.op,
            cell=result.cell or "",
            elapsed_s=result.elapsed_s,
            images_left=self.images_left,
        )
        self.images_left -= seen.images_used
        content = [*seen.content, *({"type": "text", "text": w} for w in result.warnings)]
        return Answer(content, result.final and result.state != "ok")

    def _lost(self, error: LostOperation) -> Answer:
        self.session.boot = error.boot
        words = (
            "lost: the sandbox was replaced or restarted before this could be answered. Nothing of "
            "it is run again. A new kernel runs: all variables are gone; the notebook is there, "
            "and what was in outputs/."
        )
        if error.known is None:
            return text(words, is_error=True)
        known = self._observed(error.known)
        return Answer([*known.content, {"type": "text", "text": words}], is_error=True)

    def _cells(self) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = json.loads(self.session.notebook())["cells"]
        return cells


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema.pop("description", None)
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return schema


def _edited(result: Result) -> Answer:
    if result.state != "ok":
        return text(result.reason, is_error=True)
    where = f"cell {result.cell}" if result.cell else result.reason
    return text(f"{where}\n{result.diff}".strip())


def _source(cell: Mapping[str, Any]) -> str:
    head = f"[{cell['cell_type']} {cell['id']}]"
    return f"{head}\n{''.join(cell['source'])}"


def _summary(cell: Mapping[str, Any]) -> str:
    outputs = shorten(as_text(cell.get("outputs", [])), 1_000, f'read_cell(cell="{cell["id"]}")')
    return f"{_source(cell)}\n→ {outputs}" if outputs else _source(cell)
