"""Files that an experiment names: found beside the TOML, copied to safe places only.

Validation looks at the disk only where it is told which folder the paths start from, by the
context `{"folder": Path}`; a plan read back from a record is checked without any of its files.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.functional_validators import BeforeValidator

from runner.config.refuse import refuse

WORKSPACE = "/workspace"
"""What a sandbox's working directory is called in an experiment, whatever it is on the host."""

COPY_LIMIT = 1024**3
"""Bytes that an experiment may have copied into the workspace."""


def workspace_path(text: str) -> str:
    """A path in the workspace, relative to it; refuses one that leaves it."""
    expected = f"a path inside the workspace, relative or under {WORKSPACE}"
    inside = text.removeprefix(WORKSPACE + "/") if text != WORKSPACE else ""
    path = posixpath.normpath(inside) if inside else "."
    if path == ".":
        raise refuse(expected, hint="Name the file or directory it is to become.")
    if "\0" in text or posixpath.isabs(path) or ".." in inside.split("/"):
        raise refuse(expected)
    return path


def task_text(value: Any, info: ValidationInfo) -> Any:
    """The task: the text itself, or that of the file which one word with a dot or `/` names."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise refuse("what the agent is to do: text, or a file with it")
    folder = _folder(info)
    if folder is None or not _is_path(value):
        return value
    path = _anchor(value, folder)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise _unreadable(path, error, "the task's file") from error
    except UnicodeDecodeError as error:
        raise refuse("a text file in UTF-8", found=f"other bytes in {path}") from error
    if not text.strip():
        raise refuse("a task in the file", found=f"nothing in {path}")
    return text


def _is_path(text: str) -> bool:
    """Whether a task is the name of a file rather than the task itself."""
    if "\n" in text:
        return False
    return text.endswith((".md", ".txt")) or (
        not text.split()[1:] and ("/" in text or Path(text).suffix != "")
    )


def _folder(info: ValidationInfo) -> Path | None:
    return (info.context or {}).get("folder")


def _anchor(value: Any, folder: Path) -> Path:
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _anchored(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise refuse("the path of a file")
    folder = _folder(info)
    return _anchor(value, folder) if folder and isinstance(value, str | Path) else value


def _unreadable(path: Path, error: OSError, what: str) -> Exception:
    return refuse(f"{what} at {path}", found=(error.strerror or str(error)).lower())


def _file(path: Path, info: ValidationInfo) -> Path:
    if _folder(info) is not None:
        _check_file(path)
    return path


def _directory(path: Path, info: ValidationInfo) -> Path:
    if _folder(info) is not None:
        for _ in walk(path):
            pass
    return path


def _library(path: Path, info: ValidationInfo) -> Path:
    if not path.stem.isidentifier() or (path.suffix not in ("", ".py")):
        raise refuse(
            "a .py file or a package's directory with a name that Python can import",
            hint="Only letters, digits and `_` in the name, no digit first.",
        )
    return _file(path, info) if path.suffix else _directory(path, info)


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "something else"
            raise refuse(f"a file at {path}", found=kind)
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(path, error, "a file") from error


def walk(top: Path) -> Iterator[Path]:
    """The files below a directory that is copied in, in order.

    Refuses a directory that is not there or cannot be read, symlinks that point out of it,
    and what is neither a file nor a directory (a pipe would block the copy for ever).
    """

    def fail(error: OSError) -> None:
        raise _unreadable(Path(error.filename or top), error, "a directory")

    real_top = Path(os.path.realpath(top))
    for folder, folders, files in os.walk(top, onerror=fail):
        folders.sort()
        for path in (Path(folder, name) for name in sorted([*files, *folders])):
            if path.is_symlink():
                if not Path(os.path.realpath(path)).is_relative_to(real_top):
                    raise refuse(
                        f"symlinks that stay inside {top}",
                        found=f"{path} → {path.readlink()}",
                        hint="Copy the file there, or mount the data as a volume.",
                    )
            elif path.is_dir():
                continue
            elif not path.is_file():
                raise refuse("files and directories only", found=f"{path}, which is neither")
            yield path


def check_size(paths: list[Path]) -> None:
    """Refuse to copy more than `COPY_LIMIT` bytes in."""
    total = sum(
        file.lstat().st_size for path in paths for file in (walk(path) if path.is_dir() else [path])
    )
    if total > COPY_LIMIT:
        raise refuse(
            f"at most {COPY_LIMIT >> 20} MiB of files to copy in",
            found=f"{total >> 20} MiB",
            hint="Mount data of this size as one of sandbox.volumes.",
        )


AnchoredPath = Annotated[Path, BeforeValidator(_anchored)]
FilePath = Annotated[AnchoredPath, AfterValidator(_file)]
DirectoryPath = Annotated[AnchoredPath, AfterValidator(_directory)]
LibraryPath = Annotated[AnchoredPath, AfterValidator(_library)]
WorkspacePath = Annotated[str, AfterValidator(workspace_path)]


class Copied(BaseModel):
    """Something of this machine that is copied into the workspace.

    In the file a pair `["here", "path in the workspace"]`, or one path, which keeps its name.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    source: AnchoredPath = Field(description="What is copied.")
    path: WorkspacePath = Field(description="Where it goes, inside the workspace.")

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, str | Path):
            return {"source": value, "path": Path(value).name}
        if isinstance(value, list | tuple):
            if len(value) != 2 or not all(isinstance(part, str | Path) for part in value):
                raise refuse('a path, or a pair ["path here", "path in the workspace"]')
            return {"source": value[0], "path": str(value[1])}
        return value


class LocalFile(Copied):
    """A file that is copied into the workspace."""

    source: FilePath = Field(description="The file on this machine.")


class LocalDir(Copied):
    """A directory that is copied into the workspace."""

    source: DirectoryPath = Field(description="The directory on this machine.")
