"""A stand-in for nvidia-smi, which prints what the real one prints of one or more GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

UUID = "GPU-5f6b0f1c-0000-0000-0000-000000000000"
OTHER = "GPU-5f6b0f1c-0000-0000-0000-000000000001"


class Smi:
    """One on PATH, for a machine with two A100."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._says = top / "smi", top / "smi" / "says"
        self.folder.mkdir()
        self.script('case "$*" in *utilization*) cat "$says";; *) cat "$says.list";; esac')
        names = "NVIDIA A100-SXM4-80GB, 81920"
        (self.folder / "says.list").write_text(f"0, {UUID}, {names}\n1, {OTHER}, {names}\n")
        self.path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        monkeypatch.setenv("PATH", self.path)
        self.busy(0)

    def script(self, text: str) -> None:
        """Have it do something else."""
        file = self.folder / "nvidia-smi.part"
        file.write_text(f"#!/bin/sh\nsays={self._says}\n{text}\n")
        file.chmod(0o755)
        file.replace(self.folder / "nvidia-smi")

    def busy(self, percent: int | str) -> None:
        """How busy the first GPU is from now on; the other one is always busy with others' work."""
        part = self.folder / "says.part"
        part.write_text(f"{UUID}, {percent}, 14541\n{OTHER}, 99, 70000\n")
        part.replace(self._says)
