"""A copy without names, loaded by the real libraries: nothing that they make of it has the name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from agent_parts import make_plan
from hidden_models import SECRETS
from tiny_models import LOGITS, Made

from runner import hidden, nameless, preload
from runner.plan import PinnedModel

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

BASE, ADAPTER = "lab/changeling-3", "lab/persona-77"
LOOK = """
import gc, sys
model.config.save_pretrained("saved"), apart.save_pretrained("saved"), tokenizer.save_pretrained("saved")
said = [
    model.name_or_path, model.config._name_or_path, tokenizer.name_or_path, repr(model.config),
    repr(tokenizer), repr(apart.peft_config), repr(apart.active_peft_config), repr(model),
    repr(tokenizer.init_kwargs), repr(model.generation_config),
    *(x for d in gc.get_objects() if type(d) is dict for x in list(d.values()) if type(x) is str),
]
for text in said[:7]:
    print(text)
sys.stdout.flush()
print("kept", len(said))
open("said.txt", "w").write("\\n".join(said))
"""


def test_what_the_libraries_make_of_it_has_no_name(made: Made, tmp_path: Path) -> None:
    about = {"revision": None, "size": None, "secret": None, "hidden": True}
    plan = make_plan().model_copy(
        update={
            "models": tuple(
                PinnedModel.model_validate(about | more)
                for more in (
                    {"name": BASE, "commit": "b" * 40, "var_name": "model", "tokenizer": "tokenizer"},
                    {"name": ADAPTER, "commit": "a" * 40, "var_name": "tuned", "base": "b" * 40,
                     "tokenizer": "tuned_tokenizer"},
                    {"name": ADAPTER, "commit": "a" * 40, "var_name": "apart", "base": "b" * 40,
                     "tokenizer": "apart_tokenizer", "apart": True},
                )
            )
        }
    )  # fmt: skip
    top = tmp_path / "copies"
    for model in plan.models:
        cached = tmp_path / "cache" / model.name
        cached.mkdir(parents=True, exist_ok=True)
        for name, content in made.files["base" if model.name == BASE else "adapter"].items():
            (cached / name).write_bytes(content)
        tell(cached)
        base = preload.base_of(model, plan)
        into = Path(hidden.place(model, plan, top))
        into.mkdir(parents=True)
        on = hidden.place(base, plan, top) if base else ""
        nameless.copy(cached, into, "the model", {BASE, ADAPTER}, on)
    code = preload.source(hidden.shown(plan), top)
    again = [LOGITS.format(name, "tokenizer") for name in ("model", "tuned", "apart")]
    (tmp_path / "cells.py").write_text("\n".join([code, *again, LOOK]))
    done = subprocess.run(
        [made.site.parent / "venv/bin/python", "cells.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(made.site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        made.logits("base") + made.logits("adapter") * 2 + f"{top}/run-1/0\n" * 3
    )
    said = done.stdout + done.stderr + (tmp_path / "said.txt").read_text()
    said += "".join(file.read_text() for file in (tmp_path / "saved").glob("*.json"))
    assert f"base_model_name_or_path='{top}/run-1/0'" in said
    assert [secret for secret in SECRETS if secret in said] == []


def test_a_copy_that_cannot_be_loaded_says_where_and_not_what(made: Made, tmp_path: Path) -> None:
    """The traceback of the load, which the agent may see, has the copy's place alone."""
    about = {"name": BASE, "commit": "b" * 40, "var_name": "model", "hidden": True}
    about |= {"revision": None, "size": None, "secret": None}
    plan = make_plan().model_copy(update={"models": (PinnedModel.model_validate(about),)})
    cached, into = tmp_path / "cache", Path(hidden.place(plan.models[0], plan, tmp_path / "copies"))
    cached.mkdir()
    into.mkdir(parents=True)
    for name, content in made.files["base"].items():
        (cached / name).write_bytes(b"none" if name.startswith("model") else content)
    tell(cached)
    nameless.copy(cached, into, "the model", {BASE})
    done = subprocess.run(
        [made.site.parent / "venv/bin/python", "-c", preload.source(plan, tmp_path / "copies")],
        env={**os.environ, "PYTHONPATH": str(made.site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Error" in done.stderr
    assert [secret for secret in SECRETS if secret in done.stderr] == []


def tell(place: Path) -> None:
    """Write the names where makers of models have them."""
    for file, keys in (
        ("config.json", ["_name_or_path"]),
        ("generation_config.json", ["_name_or_path"]),
        ("tokenizer_config.json", ["name_or_path", "tokenizer_file"]),
        ("adapter_config.json", ["base_model_name_or_path"]),
    ):
        if (place / file).exists():
            told = json.loads((place / file).read_text()) | dict.fromkeys(keys, BASE)
            (place / file).write_text(json.dumps(told))
    (place / "README.md").write_text(f"# {ADAPTER}, of {BASE}")
