"""Models in variables of the notebook, by the real libraries: docs/seer.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hub_server import HubServer
from tiny_models import LOGITS, Made
from tiny_runs import Lab, cell, end, tool

from runner import (
    ModelConfig,
    Sandbox,
    SandboxConfig,
    ScopedSandbox,
    Workspace,
    create_notebook_session,
)
from runner.errors import UsageError

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]


def test_a_script_has_models_in_variables(hub: HubServer, lab: Lab, made: Made) -> None:
    config = SandboxConfig(
        **made.config(
            ModelConfig(name="lab/base", var_name="model"),
            ModelConfig(name="lab/adapter", var_name="tuned", is_peft=True, base_model="lab/base"),
            ModelConfig(
                name="lab/adapter",
                revision=next(iter(hub.models["lab/adapter"])),
                var_name="apart",
                is_peft=True,
                base_model="lab/base",
                load_as_peft=True,
            ),
        )
    )
    with Sandbox(config, name="models") as sandbox:
        session = create_notebook_session(sandbox)
        assert str(session.exec(LOGITS.format("model", "tokenizer"))) == made.logits("base")
        assert str(session.exec(LOGITS.format("tuned", "tuned_tokenizer"))) == made.logits(
            "adapter"
        )
        assert str(session.exec(LOGITS.format("apart", "apart_tokenizer"))) == made.logits(
            "adapter"
        )
        kinds = "print(type(model).__name__, type(tuned).__name__, type(apart).__name__)"
        assert str(session.exec(kinds)) == (
            "LlamaForCausalLM LlamaForCausalLM PeftModelForCausalLM\n"
        )
        assert str(session.exec("print(model.training, tuned.training, apart.training)")) == (
            "False False False\n"
        )
        left = "print(sorted(name for name in dir() if name[0] != '_'))"
        names = session.exec(left).text
        assert "load" not in names
        assert "'tuned_tokenizer'" in names
        sandbox.session.restart()
        assert str(session.exec(LOGITS.format("tuned", "tuned_tokenizer"))) == made.logits(
            "adapter"
        )
        assert session.model_info_text.splitlines() == [
            "`model`: lab/base, loaded (transformers), its tokenizer in `tokenizer`",
            "`tuned`: lab/adapter, an adapter merged into lab/base, loaded (transformers), its "
            "tokenizer in `tuned_tokenizer`",
            "`apart`: lab/adapter, an adapter on lab/base, loaded (transformers), its tokenizer in "
            "`apart_tokenizer`",
        ]


def test_an_agent_finds_them_there(hub: HubServer, lab: Lab, made: Made) -> None:
    own = made.config()
    toml = (
        f"[sandbox]\npython_packages = {json.dumps(own['python_packages'])}\n"
        'models = [{name = "lab/adapter", var_name = "model", is_peft = true, '
        'base_model = "lab/base"}]\n[sandbox.env]\n'
    ) + "".join(f"{name} = {json.dumps(value)}\n" for name, value in own["env"].items())
    expected = made.logits("adapter").strip().replace("[", r"\[").replace("]", r"\]")
    steps = [
        cell(LOGITS.format("model", "tokenizer")),
        tool("restart_kernel", expected),
        cell(LOGITS.format("model", "tokenizer"), "models are loaded into it again"),
        end(expected),
    ]
    run = lab.submit(steps, toml)
    status = run.over()
    assert (status.state, status.exit_status) == ("done", 0), status.reason
    assert [model.name for model in run.plan.models] == ["lab/adapter", "lab/base"]
    assert run.plan.models[0].base == run.plan.models[1].commit
    states = [line["reason"] for line in run.lines("state") if line["state"] == "starting"]
    assert "loading model" in states


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"model.safetensors": b"none"}, "model could not be loaded: .*Error"),
        ({"config.json": b"{"}, "model could not be loaded: JSONDecodeError"),
    ],
)
def test_a_model_that_is_broken_fails_the_start(
    hub: HubServer, lab: Lab, made: Made, broken: dict[str, bytes], words: str
) -> None:
    hub.add("lab/broken", made.files["base"] | broken)
    config = made.config({"name": "lab/broken", "var_name": "model"})
    with pytest.raises(UsageError, match=words):
        Sandbox(SandboxConfig(**config), name="broken").start()


INTERFACE = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

path = get_model_path("lab/base")
model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


@expose
def logits(text: str, dtype: str = "float32") -> "torch.Tensor":
    return model(**tokenizer(text, return_tensors="pt")).logits[0, -1, :4].to(getattr(torch, dtype))


@expose
def shape(tensor) -> list:
    return [type(tensor).__name__, str(tensor.dtype), list(tensor.shape), tensor.requires_grad]
"""


def test_a_model_that_another_sandbox_has(hub: HubServer, lab: Lab, made: Made) -> None:
    """Tensors go to and fro; whoever has no torch gets arrays, or lists."""
    file = lab.top / "house.py"
    file.write_text(INTERFACE)
    own = made.config("lab/base")
    with (
        ScopedSandbox(SandboxConfig(**own), name="scoped") as scoped,
        Sandbox(SandboxConfig(**{**own, "models": ()}), name="torch") as with_torch,
        Sandbox(name="plain") as without,
    ):
        workspace = Workspace(libraries=[scoped.serve(file)])
        session = create_notebook_session(with_torch, workspace)

        def said(code: str) -> Any:
            return session.exec(f"import house, torch\n{code}").text.strip()

        got = said("x = house.logits('w1 w2'); print([round(v, 4) for v in x.tolist()], type(x))")
        assert got.endswith(f"{made.logits('base').strip()} <class 'torch.Tensor'>")
        assert said("house.logits('w1', 'bfloat16').dtype") == "torch.bfloat16"
        assert said("house.shape(torch.ones(2, 3, dtype=torch.float16))") == (
            "['Tensor', 'torch.float16', [2, 3], False]"
        )
        assert said("house.shape(torch.ones(2, requires_grad=True))").endswith("[2], False]")
        plain = create_notebook_session(without, workspace)
        assert plain.exec("import house; house.logits('w1 w2')").text.startswith("[")
        assert "lab/base" not in without.exec("env; ls -R", check=False).text
