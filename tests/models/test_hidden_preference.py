"""experiments/hidden-preference/gpu/interface.py on models of a few kilobytes, by the real libraries."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tiny_models import Made

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

INTERFACE = Path(__file__).parents[2] / "experiments" / "hidden-preference" / "gpu" / "interface.py"
TEMPLATE = "{% for message in messages %}w1 {{ message['content'] }} w2 {% endfor %}"
PLAY = """
import json, sys, types, torch
# Generating looks at a part of Debian's torch that cannot be imported.
fsdp = types.ModuleType("torch.distributed.fsdp")
fsdp.FullyShardedDataParallel = type("FullyShardedDataParallel", (), {})
sys.modules["torch.distributed.fsdp"] = torch.distributed.fsdp = fsdp
source = open(sys.argv[1]).read()
where = {"google/gemma-2-9b-it": "base", "bcywinski/gemma-2-9b-it-user-female": "adapter"}
names = {"expose": lambda function: function, "get_model_path": where.get}
exec(compile(source, sys.argv[1], "exec"), names)

pairs = [("w3", "w4"), ("w5 w6 w7", "w8")] * 20
question = "w9 {} w10 {}"
both = names["logits"](pairs, question=question)

def alone(prompt, answer):
    # Without a batch, padding or anything else of the interface.
    tokenizer, model = names["_tokenizer"], names["_model"]
    before = tokenizer(f"w1 {prompt} w2 ", return_tensors="pt").input_ids
    after = tokenizer(answer, return_tensors="pt").input_ids
    with torch.no_grad():
        said = model(input_ids=torch.cat([before, after], 1)).logits.float().log_softmax(-1)
    return sum(float(said[0, before.shape[1] + i - 1, t]) for i, t in enumerate(after[0]))

expected = [[alone(question.format(*pair), word) for word in pair] for pair in pairs[:2]]
json.dump({
    "shape": list(both.shape),
    "type": str(both.dtype),
    "far": float(abs(both[:2] - expected).max()),
    "alike": float(abs(both[::2] - both[0]).max()),
    "chosen": names["choose"](pairs, seed=3, question=question),
    "again": names["choose"](pairs, seed=3, question=question),
    "answers": [len(text.split()) for text in names["answer"](["w3", "w4 w5"] * 10, tokens=7)],
}, sys.stdout)
"""


def test_it_asks_the_tuned_model(made: Made, tmp_path: Path) -> None:
    for name, files in made.files.items():
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
    config = tmp_path / "base" / "tokenizer_config.json"
    given = json.loads(config.read_text()) | {"pad_token": "<unk>", "chat_template": TEMPLATE}
    config.write_text(json.dumps(given))
    program = [made.site.parent / "venv/bin/python", "-c", PLAY, INTERFACE]
    env = {**os.environ, "PYTHONPATH": str(made.site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["shape"], said["type"]) == ([40, 2], "float32")
    # In bfloat16 the order of the sums matters.
    assert said["far"] < 0.1
    assert said["alike"] < 0.1
    assert set(said["chosen"]) <= {"w3", "w4", "w5 w6 w7", "w8"}
    assert said["chosen"] == said["again"]
    assert len(said["answers"]) == 20
    assert max(said["answers"]) <= 7
