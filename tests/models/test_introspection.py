"""What experiments/introspection asks a real model by, with a tiny one."""

from __future__ import annotations

from pathlib import Path

from hub_server import HubServer
from tiny_models import Made
from tiny_runs import Lab

from runner import Library, Sandbox, SandboxConfig, Workspace, create_notebook_session

LIBRARY = Path(__file__).parents[2] / "experiments" / "introspection" / "hub_model.py"
SETUP = """
import numpy as np, subject, torch
import sys, types
# `generate` looks at it, and Debian's cannot be imported by Python 3.11.
sys.modules["torch.distributed.fsdp"] = types.SimpleNamespace(FullyShardedDataParallel=torch.Generator)
torch.distributed.fsdp = sys.modules["torch.distributed.fsdp"]
tokenizer.chat_template = "{% for m in messages %}w1 {{ m['content'] }} {% endfor %}w2"
generator = torch.Generator().manual_seed(0)
vectors = torch.randn(3, 16, generator=generator).numpy()
given = dict(layer=0, trials=20, seed=1)
print(subject.about())
"""
ACTIVATIONS = """
ids = tokenizer("w5 w6", return_tensors="pt").input_ids
hidden = model(ids, output_hidden_states=True).hidden_states[1][0, -1].detach().numpy()
print(np.allclose(subject.activations(["w7 w7 w7", "w5 w6"], 0)[1], hidden, atol=1e-5))
"""
NOTHING = """
plain = subject.ask("w3 w4 ?", 0 * vectors, strength=8, **given)
print([len(answers) for answers in plain], plain == subject.ask("w3 w4 ?", vectors, strength=0, **given))
print(len(model.model.layers[0]._forward_hooks))
"""
# Where the last block adds nothing, a word's own row makes the model say that word.
PUSHED = """
with torch.no_grad():
    for part in (model.model.layers[1].self_attn.o_proj, model.model.layers[1].mlp.down_proj):
        part.weight.zero_()
    model.lm_head.weight.mul_(50)
longest = model.lm_head.weight.norm(dim=1).topk(2).indices
pushing = model.lm_head.weight[longest].detach().numpy()
for strength in (1000, 0):
    pushed = subject.ask("w3 w4 ?", pushing, strength=strength, **given)
    said = [" ".join(answers).split() for answers in pushed]
    counts = [words.count(f"w{row - 1}") for row, words in zip(longest.tolist(), said)]
    print([count > 0.7 * len(words) for count, words in zip(counts, said)])
"""


def test_it_reads_and_adds_where_it_says(hub: HubServer, lab: Lab, made: Made) -> None:
    config = made.config({"name": "lab/base", "var_name": "model"})
    with Sandbox(SandboxConfig(**config)) as sandbox:
        libraries = [Library.from_file(LIBRARY, name="subject")]
        session = create_notebook_session(sandbox, Workspace(libraries=libraries))
        told = "{'layers': 2, 'width': 16, 'reads': 'text', 'model': 'LlamaForCausalLM'}\n"
        assert str(session.exec(SETUP)) == told
        assert str(session.exec(ACTIVATIONS)) == "True\n"
        assert str(session.exec(NOTHING)) == "[20, 20, 20] True\n0\n"
        assert str(session.exec(PUSHED)) == "[True, True]\n[False, False]\n"
