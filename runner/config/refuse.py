"""How a validator says no: what was expected, what was found, what to do."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import PydanticCustomError

REFUSED = "refused"
"""The pydantic error type of every refusal made here."""

HIDDEN = "a value that is not shown, as it may be a secret"

_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
_SECRET = re.compile(
    r"\b(sk|pk|ghp|gho|github_pat|hf|glpat|xox\w|AKIA|eyJ)[-_\w]{8,}|[\w+/=-]{32,}"
)


def refuse(expected: str, *, found: str = "", hint: str = "") -> PydanticCustomError:
    """The error to raise in a validator; without `found` the value itself is described."""
    template = "expected {expected}" + (", found {found}" if found else "")
    template += ". {hint}" if hint else ""
    context = {"expected": expected, "found": found, "hint": hint}
    return PydanticCustomError(REFUSED, template, context)


def mask(text: str) -> str:
    """`text` with the credentials of any URL in it replaced by `***`."""
    return _CREDENTIALS.sub("***@", text)


def describe(value: Any) -> str:
    """A value as it may be shown in a message: short, and never what looks like a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if _CREDENTIALS.search(value) or _SECRET.search(value):
            return f"text of {len(value)} characters"
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return type(value).__name__
