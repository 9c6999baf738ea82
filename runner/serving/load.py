"""Loads models into variables of the notebook; run in its kernel, hidden, whenever that starts.

Names `load` is called with are not left behind: what is loaded is all that the notebook has.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def load(namespace: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
    """Put each model, and its tokenizer if it has one, into the namespace.

    `path` and `base` are directories, relative to the cache of the hub's library: an adapter's
    base is loaded first, and the adapter merged into it unless `apart`.
    """
    cache = Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")
    for one in wanted:
        path = cache / one["path"]
        base = cache / one["base"] if one["base"] else None
        namespace[one["variable"]] = _model(path, base, apart=one["apart"])
        holders = [place for place in (path, base) if place and _has_tokenizer(place)]
        if holders:
            from transformers import AutoTokenizer

            namespace[one["tokenizer"]] = AutoTokenizer.from_pretrained(str(holders[0]))


def _home() -> Path:
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")


def _model(path: Path, base: Path | None, *, apart: bool) -> Any:
    model = _loaded(base or path)
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(path))
        if not apart:
            model = model.merge_and_unload()
    return model.eval()


def _loaded(path: Path) -> Any:
    import torch
    import transformers

    named = json.loads((path / "config.json").read_text()).get("architectures") or [""]
    kind = getattr(transformers, named[0], transformers.AutoModelForCausalLM)
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    given: dict[str, Any] = {"dtype" if version >= (4, 56) else "torch_dtype": "auto"}
    several = torch.cuda.device_count() > 1
    if several:
        given["device_map"] = "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are not about the experiment
        model = kind.from_pretrained(str(path), **given)
    return model.to("cuda") if torch.cuda.is_available() and not several else model


def _has_tokenizer(path: Path) -> bool:
    return any((path / name).exists() for name in TOKENIZERS)
