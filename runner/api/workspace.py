"""Workspace: what is put into a sandbox before an agent works there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Self

from runner.api.files import files_below, text_of
from runner.api.served import Served
from runner.api.skills import Skill
from runner.api.stubs import stub
from runner.errors import UsageError


@dataclass(frozen=True)
class Library:
    """Code that the notebook can import, and that the prompt tells of.

    `files` are its paths below the workspace, with what is in them. Made by the constructors
    below; each raises UsageError for what Python could not import.
    """

    name: str
    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    docs: str = ""
    served: Served | None = None
    """Where its functions run, if not in the notebook."""

    @classmethod
    def from_code(cls, name: str, code: str) -> Self:
        """A module out of its source."""
        check_name(name, "a library")
        return cls(name, ((f"{name}.py", code.encode()),), _documented(name, code))

    @classmethod
    def from_file(cls, path: Path | str, name: str | None = None) -> Self:
        """A module out of a .py file."""
        path = Path(path)
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(f"{path}: expected a .py file", hint="Library.from_directory?")
        return cls.from_code(name or path.stem, text_of(path))

    @classmethod
    def from_directory(cls, path: Path | str, name: str | None = None) -> Self:
        """A package out of a directory, with all that is in it, data too."""
        path = Path(path)
        name = name or path.resolve().name
        check_name(name, "a package")
        if not (path / "__init__.py").is_file():
            raise UsageError(
                f"{path}: expected a package: a directory with an __init__.py",
                hint="what is no package: Workspace(local_dirs=[(path, place)])",
            )
        docs = _documented(name, text_of(path / "__init__.py"))
        return cls(name, files_below(path, name), docs)

    @classmethod
    def of(cls, served: Served) -> Self:
        """The package whose functions are those that another sandbox serves."""
        code = stub(served.functions)
        source = files("runner.serving")
        sources = [("__init__.py", code.encode())]
        sources += [(name, source.joinpath(name).read_bytes()) for name in ("remote.py", "wire.py")]
        placed = tuple((f"{served.name}/{name}", data) for name, data in sources)
        return cls(served.name, placed, _documented(served.name, code), served)


@dataclass(frozen=True)
class Workspace:
    """What a session begins with.

    `local_dirs` and `local_files` are pairs of a path here and its place in the workspace;
    `skill_dirs` are directories of skills; `custom_init_code` runs in the kernel first, and is in
    the journal but not in the notebook.
    """

    local_dirs: Sequence[tuple[Path | str, str]] = ()
    local_files: Sequence[tuple[Path | str, str]] = ()
    libraries: Sequence[Library] = ()
    skills: Sequence[Skill] = ()
    skill_dirs: Sequence[Path | str] = ()
    custom_init_code: str = ""

    @cached_property
    def all_skills(self) -> tuple[Skill, ...]:
        """Those of `skill_dirs` too; raises UsageError for a directory that is none."""
        return (*self.skills, *map(Skill.from_directory, self.skill_dirs))

    def facts(self) -> list[str]:
        """What the prompt tells of it."""
        copied = [f"{place}: copied in" for _, place in (*self.local_files, *self.local_dirs)]
        libraries = [f"library to import: {library.docs}" for library in self.libraries]
        return [*libraries, *(skill.fact for skill in self.all_skills), *copied]


def check_name(name: str, what: str) -> None:
    """Refuse what Python could not import."""
    if not name.isidentifier():
        raise UsageError(f"{name!r} is no name that Python can import; {what} needs another")


def _documented(name: str, code: str) -> str:
    """The name, the first line of its docstring, and its public functions and classes."""
    try:
        module = ast.parse(code)
    except SyntaxError as error:
        raise UsageError(f"library {name}, line {error.lineno}: {error.msg}") from error
    lines = [f"{name}{_summary(module)}"]
    for item in module.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name[0] != "_":
            given = ast.unparse(item.args)
            returns = f" -> {ast.unparse(item.returns)}" if item.returns else ""
            lines.append(f"{item.name}({given}){returns}{_summary(item)}")
        elif isinstance(item, ast.ClassDef) and item.name[0] != "_":
            lines.append(f"class {item.name}{_summary(item)}")
    return "\n  - ".join(lines)


def _summary(item: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    text = inspect.cleandoc(ast.get_docstring(item) or "").split("\n")[0]
    return f": {text}" if text else ""
