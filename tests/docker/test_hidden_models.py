"""Models on an engine whose names the agent looks for, and does not find."""

from __future__ import annotations

from pathlib import Path

import hidden_models
import pytest
from docker_lab import DockerLab
from hub_server import hub_server, used_here

from runner import SandboxConfig, ScopedSandbox, Workspace, create_notebook_session
from runner.api.sandbox import Failed
from runner.backends.base import Handle

pytestmark = pytest.mark.docker


def test_an_agent_that_looks_for_the_name(lab: DockerLab, tmp_path: Path) -> None:
    with (
        hub_server(tmp_path / "hub", address=lab.address) as hub,
        used_here(hub),
        lab.trusting(hub.ca),
    ):
        hub.add(hidden_models.VISIBLE, {"config.json": b"{}"})
        commits = [
            hub.add(hidden_models.NAME, hidden_models.FILES),
            hub.add(hidden_models.ADAPTER, hidden_models.ADAPTER_FILES),
        ]
        steps = hidden_models.steps(*commits)
        run = lab.submit(steps, hidden_models.TOML, hidden_models.STUBS)
        status = run.over()
        assert status.state == "done", (status.reason, run.log())
        hidden_models.check(run, commits)
        volumes = [f"{run.run_id}-{what}" for what in ("hidden", "shown")]
        assert set(volumes) <= {volume["Name"] for volume in lab.things(run.run_id)["volumes"]}
        lab.backend.delete(run.handle)
        left = lab.things(run.run_id)["volumes"]
        assert [volume["Name"] for volume in left] == [f"{run.run_id}-record"]


def test_an_interface_asks_for_it_by_its_variable(
    lab: DockerLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name nobody gets it, also in a sandbox that serves functions."""
    for name, value in (lab.env | {"RUNNER_RUNS": lab.settings.runs}).items():
        monkeypatch.setenv(name, str(value))
    for name, text in hidden_models.STUBS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    config = SandboxConfig(
        models=[{"name": hidden_models.NAME, "var_name": "model", "hidden": True}],
        local_dirs=[{"source": tmp_path / "stubs", "path": "stubs"}],
        env={"PYTHONPATH": "/workspace/stubs"},
    )
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    exposing = "\n@expose\ndef files() -> list:\n    return sorted(os.listdir(PATH))\n"
    good.write_text(f"import os\nPATH = get_model_path('model'){exposing}")
    bad.write_text(f"import os\nPATH = get_model_path('{hidden_models.NAME}'){exposing}")
    with (
        hub_server(tmp_path / "hub", address=lab.address) as hub,
        used_here(hub),
        lab.trusting(hub.ca),
    ):
        hub.add(hidden_models.NAME, hidden_models.FILES)
        with ScopedSandbox(config, name="scoped") as scoped:
            lab.adopt(Handle("docker", scoped.run_id))
            session = create_notebook_session(scoped, Workspace(libraries=[scoped.serve(good)]))
            assert session.exec("import good; print(good.files())").text == (
                "['config.json', 'model.safetensors', 'tokenizer_config.json']\n"
            )
            assert session.model_info_text.startswith("`model`: a model whose name is not told")
            with pytest.raises(Failed, match="a hidden one is asked for by its variable"):
                scoped.serve(bad)


def test_one_that_cannot_be_hidden_fails_the_start(lab: DockerLab, tmp_path: Path) -> None:
    telling = {"config.json": b'{"made_of": "changeling-3"}'}
    with (
        hub_server(tmp_path / "hub", address=lab.address) as hub,
        used_here(hub),
        lab.trusting(hub.ca),
    ):
        hub.add(hidden_models.NAME, hidden_models.FILES | telling)
        asked = f'[sandbox]\nmodels = [{{ name = "{hidden_models.NAME}", var_name = "model", '
        run = lab.submit([hidden_models.end()], asked + "hidden = true }]\n")
        status = run.over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert "config.json of the hidden model `model` tells its name" in status.reason
