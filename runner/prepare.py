"""What is done before a sandbox server starts: clone, fetch, install, note what is there.

Runs our own code only, never the experiment's, and with none of its secrets.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from runner import git, hidden, models, packages
from runner.errors import InfrastructureError
from runner.phases import PhaseLog
from runner.plan import RunPlan

OUTPUTS = "outputs"
"""Where in the workspace the agent puts what is to be kept."""


def clone(
    plan: RunPlan, workspace: Path, log: PhaseLog, end: float, env: Mapping[str, str] | None = None
) -> None:
    """Clone every repo at its pinned commit; one that is there already is left as it is.

    `env` is what git gets besides the environment of this process, as `git.clone` says.
    """
    for repo in plan.repos:
        place, part = workspace / repo.name, workspace / f".{repo.name}.part"
        if (place / ".git").exists():
            continue
        # In its place only when it is whole: a clone that was cut off looks like one.
        shutil.rmtree(part, ignore_errors=True)
        with log.phase("cloning", f"{repo.url} at {repo.commit[:12]}"):
            git.clone(repo.url, repo.commit, part, _left(end, "clone"), env)
            part.replace(place)


def fetch(
    plan: RunPlan,
    log: PhaseLog,
    end: float,
    tokens: Mapping[str | None, str | None],
    report: models.Report,
) -> None:
    """Have every model at its pinned commit in the hub library's cache.

    `tokens` has the values of the secrets that models name; that of None is for the others.
    The log, which a sandbox that starts has too, does not tell a hidden model's name.
    """
    for model in plan.models:
        named = f"{model.name} at {model.commit[:12]}"
        with log.phase("fetching", hidden.words(model) if model.hidden else named):
            models.fetch(model, _left(end, "fetch models"), tokens.get(model.secret), report)


def install(
    plan: RunPlan, workspace: Path, venv: Path, log: PhaseLog, output: Path, end: float
) -> Path:
    """Make the kernel's virtual environment with the plan's pins; returns its Python.

    Always anew: one that is there may be half-made, or changed by the agent.
    """
    python = venv / "bin" / "python"
    shutil.rmtree(venv, ignore_errors=True)
    with log.phase("installing", f"{len(plan.packages)} packages"):
        packages.make_venv(
            venv, interpreter(plan.python), plan.packages, _left(end, "install"), output
        )
        for repo in plan.repos:
            if repo.install:
                packages.install_editable(
                    str(python), workspace / repo.name, _left(end, "install"), output
                )
    return python


def install_over(
    plan: RunPlan, workspace: Path, venv: Path, log: PhaseLog, output: Path, end: float
) -> None:
    """Make a virtual environment with what the plan wants beyond the image's Python.

    The directory stays, as it may be a volume; what is in it is made anew.
    """
    assert plan.images is not None  # noqa: S101 - a run in containers has images
    base, python = plan.images.python, venv / "bin" / "python"
    for entry in venv.iterdir() if venv.exists() else ():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with log.phase("installing", f"{len(plan.to_install)} packages"):
        packages.make_overlay(venv, base, plan.to_install, _left(end, "install"), output)
        for repo in plan.repos:
            if repo.install:
                project = workspace / repo.name
                packages.install_over(str(python), base, project, _left(end, "install"), output)


def note_environment(python: Path, plan: RunPlan, path: Path) -> None:
    """Write down which packages the kernel's Python has, for the record."""
    there = packages.installed(python)
    path.write_text(json.dumps({"python": plan.python, "packages": list(there)}))


def import_paths(plan: RunPlan, workspace: Path) -> tuple[Path, ...]:
    """Where the kernel finds the repos' packages.

    `import interp_embed` from a clone needs /workspace/interp_embed itself
    on the path; with the workspace alone it is an empty namespace package.
    """
    paths: list[Path] = []
    for repo in plan.repos:
        clone = workspace / repo.name
        paths += [clone / "src", clone] if (clone / "src").is_dir() else [clone]
    return tuple(paths)


def interpreter(version: str) -> str:
    """The Python of this version: the runner's own if it is that, else one that uv finds."""
    return sys.executable if version == platform.python_version() else packages.find_python(version)


def _left(end: float, what: str) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise InfrastructureError(
            f"no time left to {what}: preparing took longer than it may",
            hint="raise `deadlines.prepare` in the settings",
        )
    return left
