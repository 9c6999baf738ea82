"""A lab on the engine for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_lab import DockerLab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerLab]:
    monkeypatch.setenv("LOGNAME", f"worker-{os.getpid()}")
    made = DockerLab(tmp_path)
    yield made
    made.close()
