"""Skill: instructions that an agent reads when it needs them, with the files that they use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from runner.api.files import text_of
from runner.errors import UsageError

PLACE = ".claude/skills"
"""Where Claude Code, and other agents, look for skills in a workspace."""
MAIN = "SKILL.md"
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Skill:
    """A directory with a SKILL.md, whose front matter has `name` and `description`.

    The format is https://agentskills.io/specification; all that is in `path` goes with it.
    """

    name: str
    description: str
    path: Path

    @classmethod
    def from_directory(cls, path: Path | str) -> Self:
        """Read a skill's directory; raises UsageError for what is none."""
        path = Path(path)
        path = path.resolve()  # they are often linked to from where an agent looks
        main = path / MAIN
        if not main.is_file():
            raise UsageError(f"{path}: expected a skill: a directory with a {MAIN}")
        found = _front_matter(main)
        name, description = found.get("name"), found.get("description")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"{main}: name: expected words such as find-features, found {name!r}")
        if not isinstance(description, str) or not description.strip():
            raise UsageError(f"{main}: description: expected what it does and when to use it")
        return cls(name, " ".join(description.split()), path)

    @property
    def fact(self) -> str:
        """What the prompt tells of it."""
        return f"skill {self.name}: {self.description} To use it, read {self.place}/{MAIN} first."

    @property
    def place(self) -> str:
        """Its directory in the workspace."""
        return f"{PLACE}/{self.name}"


def _front_matter(main: Path) -> dict[str, object]:
    text = text_of(main).removeprefix("\ufeff").replace("\r\n", "\n")
    matter = _FRONT_MATTER.match(text)
    try:
        found = yaml.safe_load(matter[1]) if matter else None
    except yaml.YAMLError as error:
        raise UsageError(f"{main}: its front matter is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"{main}: expected front matter with name and description: lines between --- and ---"
        )
    return found
