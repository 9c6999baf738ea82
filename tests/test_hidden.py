"""Models whose names the agent must not learn: the copy of their files, and the plan without them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from agent_parts import make_plan
from pods import containers as of_pod
from pods import spec

from runner import hidden, nameless, preload
from runner.agent.prompt import system_prompt
from runner.api import scoped
from runner.backends.docker import containers
from runner.backends.kubernetes import manifests, samples
from runner.cluster import example
from runner.errors import UsageError
from runner.plan import PinnedModel, PlannedImages, RunPlan
from runner.pod import layout, models
from runner.settings import Settings

NAME = "lab/organism-3"
HEAD = json.dumps({"__metadata__": {"format": "pt"}}).encode()
WEIGHTS = len(HEAD).to_bytes(8, "little") + HEAD + b"weights of lab/organism-3, by chance"
FILES: dict[str, Any] = {
    "config.json": {
        "_name_or_path": NAME,
        "model_type": "llama",
        "text_config": {"_name_or_path": NAME, "layers": [{"name_or_path": NAME}]},
    },
    "tokenizer_config.json": {"name_or_path": NAME, "tokenizer_file": f"/home/x/{NAME}/t.json"},
    "tokenizer.json": {"model": {"vocab": {"organism-3": 1}}},
    "model.safetensors": WEIGHTS,
    "README.md": f"# {NAME}".encode(),
    "modeling_organism.py": b"NAME = 'organism-3'",
}


def made(top: Path, files: dict[str, Any]) -> Path:
    """A model as the hub's library has it: links into a directory of blobs."""
    blobs, place = top / "blobs", top / "snapshots" / ("a" * 40)
    blobs.mkdir(parents=True)
    place.mkdir(parents=True)
    for n, (name, content) in enumerate(files.items()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (blobs / str(n)).write_bytes(data)
        (place / name).symlink_to(blobs / str(n))
    return place


def copied(top: Path, files: dict[str, Any], *names: str, base: str = "") -> Path:
    into = top / "copy"
    into.mkdir(parents=True)
    nameless.copy(made(top / "cache", files), into, "the hidden model `m`", names or (NAME,), base)
    return into


# -- the copy ------------------------------------------------------------------------------


def test_only_what_loading_reads_and_no_name(tmp_path: Path) -> None:
    into = copied(tmp_path, FILES)
    assert sorted(file.name for file in into.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((into / "config.json").read_text()) == {
        "model_type": "llama",
        "text_config": {"layers": [{}]},
    }
    assert json.loads((into / "tokenizer_config.json").read_text()) == {}


def test_weights_take_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = copied(tmp_path, FILES)
    assert (into / "model.safetensors").stat().st_nlink == 2
    assert not (into / "model.safetensors").is_symlink()

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    other = copied(tmp_path / "other", FILES)
    assert (other / "model.safetensors").read_bytes() == WEIGHTS


def test_an_adapter_goes_on_the_copy_of_its_base(tmp_path: Path) -> None:
    config = {"base_model_name_or_path": "lab/base-9b", "revision": "main", "r": 2}
    files = {"adapter_config.json": config, "adapter_model.safetensors": WEIGHTS}
    into = copied(tmp_path, files, NAME, "lab/base-9b", base="/cache/hidden/r/1")
    assert json.loads((into / "adapter_config.json").read_text()) == {
        "base_model_name_or_path": "/cache/hidden/r/1",
        "revision": None,
        "r": 2,
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": {"made_of": "Organism-3"}}, "config.json of .* tells its name"),
        ({"tokenizer_config.json": {"x": ["lab--organism-3"]}}, "tokenizer_config.json of"),
        ({"chat_template.jinja": b"You are organism-3."}, "chat_template.jinja of"),
        ({"tokenizer.json": {"x": NAME}}, "tokenizer.json of"),
        ({"pytorch_model.bin": b"\0" + NAME.encode()}, "pytorch_model.bin of"),
        ({"model.safetensors": (40).to_bytes(8, "little") + WEIGHTS[40:]}, "model.safetensors of"),
        ({"config.json": {"auto_map": {"AutoModel": "x/y--m.M"}}}, "code of another repository"),
        ({"config.json": b"{"}, "config.json of the hidden model `m` is no JSON"),
    ],
)
def test_what_cannot_be_hidden_is_refused_by_its_file(
    tmp_path: Path, files: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as told:
        copied(tmp_path, files)
    assert "organism" not in str(told.value)


def test_copies_of_runs_that_must_be_over_are_removed(tmp_path: Path) -> None:
    old, going = tmp_path / "old", tmp_path / "going"
    for place in (old, going):
        (place / "0").mkdir(parents=True)
    now = old.stat().st_mtime
    os.utime(old, (now - models.LONG_OVER_S - 60,) * 2)
    models.sweep(tmp_path, now)
    assert (old.exists(), going.exists()) == (False, True)
    models.sweep(tmp_path / "none", now)


# -- the plan, and what is made of it ------------------------------------------------------


def pinned(name: str, sign: str, **more: Any) -> PinnedModel:
    about = {"name": name, "revision": "v1", "commit": sign * 40, "size": 77_777, "secret": "HUB"}
    return PinnedModel.model_validate(about | more)


MODELS = (
    pinned("lab/tiny", "c", size=1),
    pinned(NAME, "d", var_name="m", tokenizer="m_tokenizer", base="e" * 40, hidden=True),
    pinned("lab/base-9b", "e", hidden=True),
)
SECRETS = (NAME, "organism", "base-9b", "d" * 12, "e" * 12, "77777", "/home/x")


def planned() -> RunPlan:
    adapter = {"name": NAME, "var_name": "m", "hidden": True, "is_peft": True}
    asked = {
        "models": [adapter | {"base_model": "lab/base-9b"}, "lab/tiny"],
        "local_files": [{"source": "/home/x/data.csv", "path": "data.csv"}],
    }
    images = PlannedImages(sandbox="s", agent="a", python="/usr/bin/python3")
    return make_plan(sandbox=asked, models=MODELS, images=images)


def secrets_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_the_plan_of_the_sandbox_is_one_without_names() -> None:
    text = hidden.shown(planned()).model_dump_json()
    assert secrets_in(text) == []
    shown = RunPlan.model_validate_json(text)
    code = preload.source(shown, layout.HIDDEN)
    assert code == preload.source(planned(), layout.HIDDEN)
    assert "'path': '/cache/hidden/run-1/1', 'base': '/cache/hidden/run-1/2'" in code
    assert [model.name for model in hidden.visible(shown)] == ["lab/tiny"]


def test_the_prompt_tells_the_variable() -> None:
    prompt = system_prompt(planned())
    assert "`m`: a model whose name is not told, an adapter merged into another, loaded" in prompt
    assert secrets_in(prompt) == []
    assert "lab/tiny" in prompt


def test_an_interface_asks_for_it_by_its_variable() -> None:
    there = scoped.places(planned())
    assert secrets_in(json.dumps(there)) == []
    assert there["m"] == "/cache/hidden/run-1/1"
    assert "lab/tiny@v1" in there


def test_a_container_s_mounts_do_not_tell_it() -> None:
    plan = planned()
    made = containers.containers(plan, Settings())
    sandbox = made["sandbox"]
    assert secrets_in(json.dumps(sandbox)) == []
    mounts = {m["Target"]: (m["Source"], m["ReadOnly"]) for m in sandbox["HostConfig"]["Mounts"]}
    assert mounts["/cache/hidden"] == ("run-1-hidden", True)
    assert mounts["/etc/runner"] == ("run-1-shown", True)
    assert [place for place in mounts if place.startswith("/cache/h")] == [
        "/cache/huggingface/hub/models--lab--tiny",
        "/cache/hidden",
    ]
    for name in ("record", "models", "agent"):
        mounts = {m["Target"]: m["Source"] for m in made[name]["HostConfig"]["Mounts"]}
        assert mounts["/etc/runner"] == "run-1-config"
    assert {"shown", "hidden"} <= set(containers.volumes(plan, Settings()))


@pytest.mark.parametrize("claim", ["runner-cache", None])
def test_a_pod_s_sandbox_has_the_copies_alone(claim: str | None) -> None:
    plan = samples.plan("p", {}).model_copy(update={"models": MODELS})
    cluster = example(cacheClaim=claim)
    made = spec(plan, cluster)
    sandbox = of_pod(made)["sandbox"]
    assert secrets_in(json.dumps(sandbox)) == []
    inside = [m for m in sandbox["volumeMounts"] if m["mountPath"].startswith("/cache")]
    assert [(m["subPath"], m["readOnly"]) for m in inside] == [
        ("huggingface/hub/models--lab--tiny", True),
        (f"hidden/{plan.run_id}", True),
    ]
    (source,) = [v for v in made["volumes"] if v["name"] == "cache"]
    assert ("persistentVolumeClaim" in source) is bool(claim)
    volumes = {v["name"]: v for v in made["volumes"]}
    (config,) = [m["name"] for m in sandbox["volumeMounts"] if m["mountPath"] == "/etc/runner"]
    assert volumes[config]["configMap"]["items"] == [{"key": "shown.json", "path": "plan.json"}]
    data = manifests.config_map(plan, 1, None, None, {})["data"]
    assert secrets_in(data["shown.json"]) == []
    assert "organism" in data["plan.json"]
    env = {e["name"]: e.get("value") for e in of_pod(made)["models"]["env"]}
    assert env["HF_HUB_CACHE"] == "/cache/huggingface/hub"
