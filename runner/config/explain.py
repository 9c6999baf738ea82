"""Pydantic's errors → one ConfigError: file, key, expected, found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.config.refuse import HIDDEN, REFUSED, describe
from runner.errors import ConfigError

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "the path of a file, in quotes",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of {ge} or more",
    "less_than_equal": "a number of {le} or less",
    "string_too_short": "text that is not empty",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
_NEVER_SHOWN = ("env", "secrets", "llm_secret")

Location = Sequence[str | int]


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    file: str,
    labels: Mapping[str, str] | None = None,
) -> ConfigError:
    """The first problem as a ConfigError whose message lists the others, one a line.

    `labels` names another place than `file` for the keys that came from there.
    """
    found = error.errors(include_url=False)
    found.sort(key=lambda details: details["type"] != "extra_forbidden")  # a typo explains more
    return combined([_problem(details, model, file, labels or {}) for details in found])


def combined(problems: Sequence[ConfigError]) -> ConfigError:
    """One error that tells all of `problems`: the first, then the others, one a line."""
    first = problems[0]
    if problems[1:]:
        lines = [f"{p.message} ({p.hint})" if p.hint else p.message for p in problems]
        first.message, first.hint = "\n  ".join(lines), ""
        first.args = (first.message,)
    return first


def _problem(
    details: ErrorDetails, model: type[BaseModel], file: str, labels: Mapping[str, str]
) -> ConfigError:
    location = [part for part in details["loc"] if part != "[key]"]
    key = dotted(location)
    place = next(
        (label for ours, label in labels.items() if key == ours or _is_in(key, ours)), file
    )
    kind, context = details["type"], details.get("ctx", {})
    found = describe(details["input"])
    if any(part in _NEVER_SHOWN for part in location) and isinstance(details["input"], str):
        found = HIDDEN
    if kind == "extra_forbidden":
        expected, found = _known_place(location), ""
        hint = _known_keys(model, location)
    elif kind == "missing":
        expected, found, hint = "a value", "none", ""
    elif kind == REFUSED:
        expected, found, hint = context["expected"], context["found"] or found, context["hint"]
    else:
        words = _EXPECTED.get(kind)
        expected = words.format(**context) if words else details["msg"]
        hint = ""
    return ConfigError(file=place, key=key or "file", expected=expected, found=found, hint=hint)


def _is_in(key: str, other: str) -> bool:
    return key.startswith((f"{other}.", f"{other}["))


def dotted(location: Location) -> str:
    """A key as a person writes it: `sandbox.repos[0].url`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_place(location: Location) -> str:
    return f"a known key of [{dotted(location[:-1])}]" if location[:-1] else "a known key"


def _known_keys(model: type[BaseModel], location: Location) -> str:
    """What an unknown key may have been meant to be."""
    key = str(location[-1])
    place = _model_at(model, location[:-1])
    known = list(place.model_fields) if place else []
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.7)
    if near:
        return f"Did you mean `{near[0]}`?"
    elsewhere = [table for table, name in _tables(model) if name == key]
    if elsewhere:
        return f"`{key}` belongs in {elsewhere[0]}."
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.4)
    if near:
        return f"Did you mean `{near[0]}`?"
    near = difflib.get_close_matches(key.lower(), [name for _, name in _tables(model)], n=1)
    if near:
        table = next(table for table, name in _tables(model) if name == near[0])
        return f"Did you mean `{near[0]}` in {table}?"
    return f"Keys here: {', '.join(known)}."


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every key of the top level and its tables, with the name of its table."""
    for name, field in model.model_fields.items():
        yield "the top level, above the first [table]", name
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            yield from ((f"[{name}]", key) for key in table.model_fields)


def _model_at(model: type[BaseModel] | None, location: Location) -> type[BaseModel] | None:
    if not location or model is None:
        return model
    field = model.model_fields.get(str(location[0]))  # an index of a list stays at its model
    return _model_at(_model_in(field.annotation) if field else model, location[1:])


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `tuple[RepoConfig, ...]` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
