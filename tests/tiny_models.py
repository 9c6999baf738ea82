"""Tiny models that are made with real libraries, and where these are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/python3/dist-packages")
PACKAGES = ("transformers==4.46.3", "numpy<2", "psutil", "typing_extensions", "jinja2")
"""The last transformers that goes with Debian's torch."""
WITHOUT_TORCH = ("peft==0.13.2", "accelerate==1.1.1")
MAKE = """
import json, sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
words = ["<unk>", *(f"w{i}" for i in range(63))]
tokens = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
tokens.pre_tokenizer = pre_tokenizers.Whitespace()
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
base = LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=64, **shape)).eval()
base.save_pretrained("base")
PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="<unk>").save_pretrained("base")
seen = torch.tensor([[2, 3]])
said = {"base": base(seen).logits[0, -1, :4].tolist()}
lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
adapted = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), lora).eval()
adapted.save_pretrained("adapter")
said["adapter"] = adapted(seen).logits[0, -1, :4].tolist()
json.dump(said, open("said.json", "w"))
"""
LOGITS = "print([round(x, 4) for x in {}(**{}('w1 w2', return_tensors='pt')).logits[0, -1, :4].tolist()])"
"""A cell that prints what `MAKE` has computed, by a model's and a tokenizer's variable."""


@dataclass(frozen=True)
class Made:
    """What there is: files of the two models, and the numbers that they have to come to."""

    site: Path
    files: dict[str, dict[str, bytes]]
    said: dict[str, list[float]]

    def config(self, *models: Any, **more: Any) -> dict[str, Any]:
        """`[sandbox]` of an experiment that has these models."""
        env = {"PYTHONPATH": str(self.site), "TRANSFORMERS_VERBOSITY": "error"}
        return {"models": models, "python_packages": list(PACKAGES), "env": env, **more}

    def logits(self, name: str) -> str:
        """What the cell of LOGITS prints."""
        return f"{[round(value, 4) for value in self.said[name]]}\n"


def _uv(*words: object) -> None:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "--quiet", *map(str, words)], check=True)


def make(top: Path) -> Made:
    """Make them in a directory."""
    if not (DEBIAN / "torch").exists():
        raise FileNotFoundError("these tests need torch: apt-get install python3-torch")
    site, venv = top / "site", top / "venv"
    site.mkdir()
    for part in DEBIAN.glob("torch*"):
        (site / part.name).symlink_to(part)
    _uv("venv", "--python", sys.executable, venv)
    _uv("pip", "install", "--python", venv / "bin/python", *PACKAGES)
    _uv("pip", "install", "--target", site, "--no-deps", *WITHOUT_TORCH)
    env = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([venv / "bin/python", "-c", MAKE], cwd=top, env=env, check=True)
    files = {
        name: {file.name: file.read_bytes() for file in (top / name).iterdir()}
        for name in ("base", "adapter")
    }
    return Made(site, files, json.loads((top / "said.json").read_text()))
