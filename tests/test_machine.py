from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from runner.config.experiment import Experiment
from runner.config.load import parse
from runner.config.machine import Gpu
from runner.machine import gpus, look_up_machine, parse_gpus
from runner.settings import Settings

LISTING = """\
0, GPU-5f6b0f1c-0000-0000-0000-000000000000, NVIDIA A100-SXM4-80GB, 81920
1, GPU-5f6b0f1c-0000-0000-0000-000000000001, Tesla T4, [N/A]
"""


def experiment(**sandbox: object) -> Experiment:
    return parse({"name": "x", "task": "Do it.", "sandbox": sandbox}, folder=None)


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a100, t4 = parse_gpus(LISTING)
    uuid = "GPU-5f6b0f1c-0000-0000-0000-000000000000"
    assert a100 == Gpu(0, uuid, "NVIDIA A100-SXM4-80GB", 80 * 1024**3)
    assert (t4.product_name, t4.memory_bytes) == ("Tesla T4", 0)
    assert parse_gpus("No devices were found\n") == ()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command(tmp_path, "nvidia-smi", f"cat <<'END'\n{LISTING}END")
    assert gpus() == (a100, t4)
    command(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert gpus() == ()


def test_the_facts_about_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command(tmp_path, "my-tool", "exit 0")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    settings = Settings(volumes={"here": tmp_path, "gone": tmp_path / "gone"})
    asked = experiment(system_packages=["my-tool", "no-such-tool"], python_version=version)
    machine = look_up_machine(asked, settings)
    assert machine.os_name == platform.system()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory_bytes > 64 * 1024**2
    assert machine.system_packages == {"my-tool"}
    assert list(machine.pythons) == [version]
    assert machine.volumes["here"].writable
    assert not machine.volumes["gone"].exists
    assert machine.gpus == ()
    assert look_up_machine(experiment(python_version="3.99"), settings).pythons == {}
