"""The tools' inputs: the fields are a tool's schema, the docstring is its description."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from runner.errors import UsageError

LONGEST_WAIT_S = 3600.0


def _inside(path: str) -> str:
    """The path without `.` and `..`; the server checks links, a URL cannot hold the rest."""
    normal = posixpath.normpath(path)
    if normal.split("/")[0] == "..":
        raise ValueError(f"{path} leads out of the workspace")
    return normal


_Seconds = Annotated[float, Field(gt=0, le=LONGEST_WAIT_S, description="seconds to wait")]
_CellId = Annotated[str, Field(description="id of the cell")]
_Execution = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="the id that came with it")
]
_Path = Annotated[
    str, Field(min_length=1, description="relative to the workspace"), AfterValidator(_inside)
]


class Input(BaseModel):
    """What a model gives to a tool; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunCell(Input):
    """Append a code cell to the notebook and run it. Returns its outputs, plots among them; after
    `timeout` seconds "still running" with an execution id: the cell goes on, `wait` shows more.
    To mend a cell that failed, edit it and run it again: the notebook stays clean."""  # noqa: D205, D209

    source: str
    timeout: _Seconds = 120.0


class RunExistingCell(Input):
    """Run a code cell of the notebook again, for example after an edit."""

    cell: _CellId
    timeout: _Seconds = 120.0


class Wait(Input):
    """Wait for a cell or shell command that was still running, and see all its outputs so far."""

    execution: _Execution
    timeout: _Seconds = 120.0


class Interrupt(Input):
    """Stop a cell or shell command that is running; a cell's variables stay.

    Only where its code ignores the interrupt for 30 s, the kernel is killed.
    """

    execution: _Execution


class EditCell(Input):
    """Replace text in a cell, where it must occur exactly once. Returns a diff. Does not run it."""

    cell: _CellId
    old: str = Field(min_length=1)
    new: str


class ReplaceCell(Input):
    """Give a cell a new source. Returns a diff. Does not run it."""

    cell: _CellId
    source: str


class DeleteCell(Input):
    """Delete a cell from the notebook. Its variables stay in the kernel."""

    cell: _CellId


class AddMarkdown(Input):
    """Append a markdown cell to the notebook."""

    source: str


class ReadNotebook(Input):
    """Read the notebook a page at a time: cells with ids, sources and outputs, shortened."""

    page: int = Field(default=1, ge=1)


class ReadCell(Input):
    """Read one cell, source and outputs whole, a part at a time. Images are only named."""

    cell: _CellId
    part: int = Field(default=1, ge=1)


class RestartKernel(Input):
    """Kill the kernel and start a new one. All variables are lost; files and the notebook stay."""


class RunShell(Input):
    """Run a shell command in the workspace. Returns its output, shortened where it is long (send it
    to a file to read it in parts); after `timeout` seconds "still running" with an execution id:
    the command goes on, `wait` shows more."""  # noqa: D205, D209

    command: str
    timeout: _Seconds = 120.0


class ReadFile(Input):
    """Read a text file, a part at a time."""

    path: _Path
    part: int = Field(default=1, ge=1)


class WriteFile(Input):
    """Write a text file, whole; directories are made. What is to be kept goes into outputs/."""

    path: _Path
    content: str


class ListFiles(Input):
    """List a directory: paths relative to it, sizes in bytes."""

    path: _Path = "."
    recursive: bool = False


def validated(model: type[Input], given: object) -> Input:
    """The input, checked. Raises UsageError with words for the model that gave it."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "none"
        problems = [_problem(details, known) for details in error.errors()]
        raise UsageError("; ".join(problems)) from None


def _problem(details: ErrorDetails, known: str) -> str:
    where = ".".join(map(str, details["loc"])) or "the input"
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: there is no such key; there are: {known}"
        case "value_error":
            return f"{where}: {details['ctx']['error']}"
        case "missing":
            return f"{where}: it is missing"
    found = repr(details["input"])
    found = found if len(found) <= 60 else f"{found[:60]}…"
    return f"{where}: {details['msg']}, found {found}"
