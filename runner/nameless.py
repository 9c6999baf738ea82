"""A copy of a model's files that does not tell whose they are.

Only what loading reads is in it. Weights and vocabularies are hard links, which take no room, or
copies where the file system has none; configurations are written anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from runner.config.checks import tells_of_model
from runner.errors import UsageError

CONFIGURATIONS = re.compile(
    r"(config|generation_config|adapter_config|tokenizer_config|special_tokens_map|added_tokens"
    r"|chat_template|(pytorch_)?model\.(safetensors|bin)\.index)\.json|chat_template\.jinja"
)
WORDS = re.compile(r"tokenizer\.json|vocab\.(json|txt)|merges\.txt")
"""Vocabularies: that a word of a model's name is among theirs tells nothing."""
BYTES = re.compile(
    r"(model|pytorch_model|adapter_model)(-\d+-of-\d+)?\.(safetensors|bin)"
    r"|(tokenizer|spiece|sentencepiece\.bpe)\.model"
)
OF_ITS_MAKER = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file")
"""Keys of configurations with places on the machine or the hub that it was made on."""
BASE, CODE = "base_model_name_or_path", "auto_map"


def copy(source: Path, into: Path, what: str, names: Iterable[str], base: str = "") -> None:
    """Make the copy in a directory that is there, of a model which is called `what` in errors.

    `names` are those that must not be in it, and `base` is where an adapter's base is. Raises
    UsageError, with the file's name, for one that tells of them or wants code from elsewhere.
    """
    names = tuple(names)
    for file in sorted(source.iterdir()):
        target = into / file.name
        if CONFIGURATIONS.fullmatch(file.name):
            text = _nameless(file, what, base)
            target.write_text(text)
            tells = any(tells_of_model(text, name) for name in names)
        elif WORDS.fullmatch(file.name) or BYTES.fullmatch(file.name):
            _link(file.resolve(), target)
            tells = _has(target, names)
        else:
            continue
        if tells:
            raise UsageError(
                f"{file.name} of {what} tells its name, so it cannot be hidden",
                hint="Serve it from a ScopedSandbox, of which the agent sees functions alone, or "
                "have a copy on the hub whose files do not.",
            )


def _nameless(file: Path, what: str, base: str) -> str:
    """A configuration without the places that it came from."""
    text = file.read_text("utf-8")
    if file.suffix != ".json":
        return text
    try:
        made = _without(json.loads(text))
    except ValueError as error:
        raise UsageError(f"{file.name} of {what} is no JSON: {error}") from error
    if not isinstance(made, dict):
        return json.dumps(made)
    if "--" in json.dumps(made.get(CODE, "")):
        raise UsageError(
            f"{file.name} of {what} wants code of another repository ({CODE})",
            hint="A hidden model is loaded by transformers' own classes.",
        )
    return json.dumps(made | ({BASE: base, "revision": None} if BASE in made else {}), indent=2)


def _without(value: Any) -> Any:
    """JSON without the keys of OF_ITS_MAKER, however deep: a configuration may hold others."""
    if isinstance(value, list):
        return [_without(item) for item in value]
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in OF_ITS_MAKER}
    return value


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)


def _has(file: Path, names: tuple[str, ...]) -> bool:
    """Whether a name as hubs and caches spell it is in a file; of safetensors, in their head."""
    forms = {form.encode() for name in names for form in (name, name.replace("/", "--"))}
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
        end = len(content)
        if file.suffix == ".safetensors":
            end = min(end, 8 + int.from_bytes(content[:8], "little"))
        return any(content.find(form, 0, end) >= 0 for form in forms)
