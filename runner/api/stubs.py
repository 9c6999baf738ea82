"""The library that stands for an interface that another sandbox serves. Pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = '''\
"""Functions that run in another sandbox."""

from __future__ import annotations

from .remote import RemoteError
from .remote import call as _call
from .remote import stream as _stream

__all__ = {names}
'''


def stub(functions: Sequence[Mapping[str, Any]]) -> str:
    """A module with these functions, as the interface's process describes them."""
    names = ["RemoteError", *(function["name"] for function in functions)]
    return "\n\n".join([_HEAD.format(names=names), *map(_function, functions)])


def _function(function: Mapping[str, Any]) -> str:
    name, parameters = function["name"], function["parameters"]
    returns = _annotation(function["returns"])
    head = f"def {name}({_signature(parameters)}){f' -> {returns}' if returns else ''}:"
    doc = [f"    {function['doc']!r}"] if function["doc"] else []
    ask = "_stream" if function["streams"] else "_call"
    return "\n".join([head, *doc, f"    return {ask}({name!r}, {_passed(parameters)})", ""])


def _signature(parameters: Sequence[Mapping[str, Any]]) -> str:
    words: list[str] = []
    before = ""
    for parameter in parameters:
        kind = parameter["kind"]
        if before == "POSITIONAL_ONLY" != kind:
            words.append("/")
        if kind == "KEYWORD_ONLY" and before not in ("KEYWORD_ONLY", "VAR_POSITIONAL"):
            words.append("*")
        words.append(_parameter(parameter))
        before = kind
    return ", ".join([*words, *(["/"] if before == "POSITIONAL_ONLY" else [])])


def _parameter(parameter: Mapping[str, Any]) -> str:
    star = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter["kind"], "")
    annotation, default = _annotation(parameter["annotation"]), parameter["default"]
    words = f"{star}{parameter['name']}{f': {annotation}' if annotation else ''}"
    if default is None:
        return words
    return f"{words} = {default}" if annotation else f"{words}={default}"


def _passed(parameters: Sequence[Mapping[str, Any]]) -> str:
    """The arguments as they are sent: by name, but for those that can only go by place."""

    def of(kind: str) -> list[str]:
        return [parameter["name"] for parameter in parameters if parameter["kind"] == kind]

    by_place, either, by_name = (
        of(kind) for kind in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")
    )
    args = [f"{name}, " for name in by_place]
    kwargs = [f"{name!r}: {name}" for name in by_name]
    given = "{" + ", ".join(f"{name!r}: {name}" for name in either) + "}"
    if rest := of("VAR_POSITIONAL"):
        # What comes before them can only go by place where there are any.
        before = "".join(f"{name}, " for name in either)
        args.append(f"*(({before}*{rest[0]}) if {rest[0]} else ()), ")
        kwargs.insert(0, f"**({{}} if {rest[0]} else {given})")
    else:
        kwargs[:0] = [f"{name!r}: {name}" for name in either]
    kwargs += [f"**{name}" for name in of("VAR_KEYWORD")]
    return f"({''.join(args)}), {{{', '.join(kwargs)}}}"


def _annotation(text: str | None) -> str:
    """An annotation that Python can read again, else none."""
    try:
        ast.parse(text or "", mode="eval")
    except SyntaxError:
        return ""
    return text or ""


def input_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """What a model may give the function, as the Messages API and MCP have it."""
    kinds = ("VAR_POSITIONAL", "VAR_KEYWORD")
    named = [one for one in function["parameters"] if one["kind"] not in kinds]
    more = any(one["kind"] == "VAR_KEYWORD" for one in function["parameters"])
    return {
        "type": "object",
        "properties": {one["name"]: _property(one) for one in named},
        "required": [one["name"] for one in named if one["default"] is None],
        "additionalProperties": more,
    }


def _property(parameter: Mapping[str, Any]) -> dict[str, Any]:
    default = parameter["default"]
    known = [parameter["annotation"], f"= {default}" if default else None]
    words = " ".join(filter(None, known))
    return {**parameter["schema"], **({"description": words} if words else {})}
