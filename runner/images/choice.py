"""Which images a command is about, and how `--name` and `--add` change them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.errors import UsageError
from runner.images.context import Context
from runner.images.definition import names as defined
from runner.images.definition import read
from runner.images.labels import Labels
from runner.names import NAME_RULE, is_name

LAB = "lab"
"""The image for a base whose Python has packages of its own."""
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def choose(names: Sequence[str], called: str | None, added: Sequence[str]) -> list[Context]:
    """The images of these names, for none those built by default.

    Raises UsageError for what cannot be built.
    """
    _check(called, added)
    chosen = read(names)
    if called is not None and len(chosen) != 1:
        raise UsageError(
            f"--name {called} is for one image, and these are {len(chosen)}",
            hint=f"runner images build {LAB} --base IMAGE --name {called}",
        )
    if added and len(chosen) != 1:
        raise UsageError(
            "--add is for one image: name it",
            hint=f"runner images build base --add {' --add '.join(added)}",
        )
    return [_changed(context, called, added) for context in chosen]


def _check(called: str | None, added: Sequence[str]) -> None:
    if called is not None and not is_name(called):
        raise UsageError(f"--name: {called!r} is no name of an image", hint=NAME_RULE)
    if called in defined() and called != LAB:
        raise UsageError(
            f"--name: {called!r} is what an image of images/{called} is called",
            hint="another name",
        )
    for package in added:
        if not _PACKAGE.fullmatch(package):
            raise UsageError(
                f"--add: {package!r} is no name of a Debian package",
                hint="lower case letters, digits, `+`, `-` and `.`, without a version",
            )


def _changed(context: Context, called: str | None, added: Sequence[str]) -> Context:
    named = context if called in (None, context.name) else context.called(str(called))
    return named.adding(added)


def again(labels: Labels, definitions: Sequence[Context]) -> Context | None:
    """The image that was built with these labels, as it is defined now; None where it is not."""
    found = next((context for context in definitions if context.name == labels.folder), None)
    if found is None:
        return None
    return _changed(found, labels.name, labels.added)
