"""`runner doctor` on an engine: what is there, and the command that mends what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from docker_lab import DockerLab

pytestmark = pytest.mark.docker


def checks(runner: CommandLine) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    told = runner("doctor", "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for line in told.out.splitlines():
        check = json.loads(line)
        found.setdefault(check["name"], []).append(check)
    return told.status, found


def test_an_engine_that_has_all(lab: DockerLab, tmp_path: Path) -> None:
    status, found = checks(CommandLine(tmp_path / "here", **lab.env))
    assert status == 0, found
    (engine,) = found["engine"]
    assert engine["ok"]
    assert "API 1." in engine["found"]
    assert found["disk"][0]["ok"]
    (images,) = found["images"]  # and none that is of another runner
    assert images["ok"]
    assert lab.settings.docker.images[0] in images["found"]
    assert "experiments without `sandbox.gpu` run" in found["gpus"][0]["found"]


def test_what_is_missing(lab: DockerLab, tmp_path: Path) -> None:
    runner = CommandLine(tmp_path / "here", **lab.env)
    status, found = checks(runner.but(RUNNER_DOCKER__IMAGES='["nonesuch:1"]'))
    assert status == 3
    assert "nonesuch:1" in found["images"][0]["found"]
    assert "runner images build" in found["images"][0]["mend"]
    status, found = checks(runner.but(RUNNER_DOCKER__AGENT=lab.settings.docker.images[0]))
    assert status == 3, "a sandbox's image is none of the agent"
    assert "docker.agent" in found["images"][0]["found"]
    status, found = checks(runner.but(DOCKER_HOST=f"unix://{tmp_path}/nobody.sock"))
    assert status == 3
    assert "no Docker engine answers" in found["engine"][0]["found"]
    assert "systemctl start docker" in found["engine"][0]["mend"]
    assert "images" not in found
    status, found = checks(runner.but(DOCKER_HOST="ssh://me@gpubox.lab.example"))
    assert "expected an engine of this machine" in found["engine"][0]["found"]
