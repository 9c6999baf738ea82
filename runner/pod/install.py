"""`runner.pod install`: the init container that adds what the sandbox's image does not have.

What it prints, uv's own words, is in `layout.INSTALL_LOG` too, and goes into the record.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runner import prepare
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step

CACHE = "UV_CACHE_DIR"
OWN_CACHE = ".uv-cache"
"""uv's cache where there is no shared one: on the volume of the virtual environment, as only
there a package can be linked instead of copied."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Make the virtual environment; a failure is a failed phase, and status 0."""
    return step.run("installing", work)


def work(
    plan: RunPlan,
    log: PhaseLog,
    end: float,
    *,
    workspace: Path = layout.WORKSPACE,
    venv: Path = layout.VENV,
    output: Path = layout.INSTALL_LOG,
) -> None:
    """Install the plan's missing pins and its own repositories over the image's Python."""
    own = None if os.environ.get(CACHE) else venv / OWN_CACHE
    if own:
        os.environ[CACHE] = str(own)
    step.say(f"installing {' '.join(plan.to_install) or 'the repositories'}")
    os.environ["UV_LINK_MODE"] = "hardlink" if own else "copy"
    try:
        prepare.install_over(plan, workspace, venv, log, output, end)
    finally:
        if own:
            shutil.rmtree(own, ignore_errors=True)
        if output.exists():
            step.say(f"{output.name}:\n{output.read_text(errors='replace')}")
