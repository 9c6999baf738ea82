"""Real torch, transformers and peft, and models of a few kilobytes that are made with them.

torch is Debian's, which is for the processor alone: PyPI's brings gigabytes for GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from hub_server import HubServer, hub_server, used_here
from tiny_models import Made
from tiny_runs import Lab


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_models.make(tmp_path_factory.mktemp("models"))


@pytest.fixture
def hub(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with lab/base and lab/adapter."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server(tmp_path / "hub") as served, used_here(served):
        for name, files in made.files.items():
            served.add(f"lab/{name}", files)
        yield served


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("RUNNER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    made = Lab(tmp_path, backend="local")
    yield made
    made.close()
    assert not list((tmp_path / "state").glob("*")), "a sandbox was left behind"
