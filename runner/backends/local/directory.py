"""The directory of a local sandbox: filled before a run, put right before it goes on, removed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner import fill as filling
from runner.backends.local.paths import Paths
from runner.errors import InfrastructureError
from runner.plan import RunPlan
from runner.record import Record
from runner.sandbox.processes import end_all

RUNTIME_PREFIX = "runner-"
"""Of the temporary directories that hold the kernels' sockets."""
LONGEST_TEMP = 40
"""Characters of a temporary directory under which Unix sockets can still have names."""


def fill(plan: RunPlan, record: Record, paths: Paths, volumes: Mapping[str, Path]) -> None:
    """Make the workspace: inputs, links to volumes, and the outputs that the record has.

    A workspace that is there has been filled, for it appears only when it is whole.
    """
    paths.server.mkdir(parents=True, mode=0o700, exist_ok=True)
    if paths.workspace.is_dir():
        return
    part = paths.workspace.with_name("workspace.part")
    shutil.rmtree(part, ignore_errors=True)
    filling.fill(plan, record, part)
    for volume in plan.experiment.sandbox.volumes:
        link = part / volume.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(volumes[volume.name], target_is_directory=True)
    part.replace(paths.workspace)


def make_runtime(paths: Paths) -> Path:
    """Make the directory of the kernel's sockets; written down first, so that `sweep` finds it."""
    usual, fallback = _temps()
    place = usual if len(str(usual)) <= LONGEST_TEMP else fallback
    runtime = place / f"{RUNTIME_PREFIX}{secrets.token_hex(4)}"
    paths.runtime.write_text(str(runtime))
    runtime.mkdir(mode=0o700)
    return runtime


def sweep(paths: Paths) -> None:
    """Remove what a sandbox leaves, also one that was killed: processes, sockets, packages."""
    end_all(paths.server)
    with contextlib.suppress(OSError, ValueError):
        runtime = Path(paths.runtime.read_text())
        if runtime.name.startswith(RUNTIME_PREFIX) and runtime.parent in _temps():
            shutil.rmtree(runtime, ignore_errors=True)
    shutil.rmtree(paths.venv, ignore_errors=True)


def _temps() -> tuple[Path, Path]:
    return Path(tempfile.gettempdir()), Path("/tmp")  # noqa: S108 - where `init` makes it


def remove(paths: Paths) -> None:
    """Remove the directory, also what the agent's code has made read-only; links are not followed.

    Raises InfrastructureError where something of it stays.
    """
    if not paths.root.exists():
        return
    shutil.rmtree(paths.root, onerror=_writable_then)
    if paths.root.exists():
        raise InfrastructureError(
            f"{paths.root}: not all of it can be removed",
            hint=f"rm -rf {paths.root}",
        )


def _writable_then(again: Callable[[str], Any], path: str, _: Any) -> None:
    """Once more, with write permission on the directory: the second failure is left."""
    folder = Path(path)
    with contextlib.suppress(OSError):
        folder.parent.chmod(stat.S_IRWXU)
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(stat.S_IRWXU)
            shutil.rmtree(folder, ignore_errors=True)
        elif again is os.unlink:
            again(path)
