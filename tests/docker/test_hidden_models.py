"""Models on an engine whose names the agent looks for, and does not find."""

from __future__ import annotations

from pathlib import Path

import hidden_models
import pytest
from docker_lab import DockerLab
from hub_server import hub_server, used_here

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
