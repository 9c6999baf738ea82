"""What `doctor` looks at. Nothing is changed but by a probe."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from runner.cli.check import Check
from runner.cli.context import Cli
from runner.cli.words import count, size
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.backends.docker import DockerBackend
    from runner.backends.kubernetes.backend import KubernetesBackend

LEAST_BYTES = 2 * 10**9
"""Below this much free disk a run is likely to fail."""
INDEX_S = 30.0


def checks(cli: Cli, *, probe: bool) -> Iterator[Check]:
    """Every check, one after the other."""
    yield Check("python", True, f"{platform.python_version()} at {sys.executable}")
    try:
        settings = cli.settings
        engine = cli.engine
    except RunnerError as error:
        yield Check("settings", False, error.message, error.hint)
        return
    yield _settings()
    yield _git()
    yield _uv()
    yield _index()
    yield _disk("records", cli.records, "--runs DIR")
    if settings.backend == "kubernetes":
        from runner.cli.cluster_checks import cluster_checks

        yield from cluster_checks(cast("KubernetesBackend", engine), cli, probe=probe)
        return
    if settings.backend == "docker":
        from runner.cli.engine_checks import engine_checks

        yield from engine_checks(cast("DockerBackend", engine), cli)
        yield _secrets()
        return
    yield _disk("state", settings.state_dir, "RUNNER_STATE_DIR=DIR")
    yield _gpus(cli)
    yield _secrets()
    yield from _leftovers(cli)


def _settings() -> Check:
    from runner.settings import settings_file

    file = settings_file()
    given = sorted(name for name in os.environ if name.startswith("RUNNER_"))
    words = str(file) if file else "no file, so the defaults"
    return Check("settings", True, words + (f"; {', '.join(given)}" if given else ""))


def _git() -> Check:
    path = shutil.which("git")
    mend = "install git, for example with `sudo apt install git`"
    if path is None:
        return Check("git", False, "there is none on the PATH; `sandbox.repos` needs it", mend)
    return _version("git", path, mend)


def _uv() -> Check:
    from uv import find_uv_bin

    mend = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall uv"
    try:
        return _version("uv", find_uv_bin(), mend)
    except FileNotFoundError as error:
        return Check("uv", False, f"its program is missing: {error}", mend)


def _version(name: str, path: str, mend: str) -> Check:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"{path} cannot be started: {error}", mend)
    if done.returncode:
        return Check(name, False, f"{path} fails: {done.stderr.strip()[:200]}", mend)
    return Check(name, True, f"{done.stdout.strip()} at {path}")


def _index() -> Check:
    """Whether what every sandbox needs can be had: from uv's cache, or from an index."""
    from runner import packages

    try:
        pins = packages.resolve((), sys.executable, INDEX_S)
    except RunnerError as error:
        return Check("packages", False, error.message, error.hint or "see what uv says above")
    return Check(
        "packages", True, f"uv resolves what a kernel needs: {count(len(pins), 'package')}"
    )


def _disk(name: str, directory: Path, other: str) -> Check:
    place = directory.absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f"mkdir -p {shlex.quote(str(place))} as somebody who may, or choose {other}"
        return Check(name, False, f"{place}: {there} cannot be written to", mend)
    free = shutil.disk_usage(there).free
    if free < LEAST_BYTES:
        mend = f"make room; `runner delete RUN` removes runs, or choose {other}"
        return Check(name, False, f"{place}: only {size(free)} are free", mend)
    return Check(name, True, f"{place}: {size(free)} free")


def _gpus(cli: Cli) -> Check:
    from runner.config.machine import Machine, gpus_for
    from runner.config.sandbox import SandboxConfig
    from runner.machine import gpus

    found = gpus()
    if not found:
        if shutil.which("nvidia-smi") is None:
            return Check("gpus", None, "none: experiments without `sandbox.gpu` run")
        return Check("gpus", False, "nvidia-smi shows none", "see what `nvidia-smi` says")
    machine = Machine(platform.system(), 0, 0, gpus=found, gpu_classes=cli.settings.gpu_classes)
    classes = [
        name
        for name in cli.settings.gpu_classes
        if gpus_for(SandboxConfig.model_validate({"gpu": name}), machine)
    ]
    names = ", ".join(gpu.product_name for gpu in found)
    words = f"sandbox.gpu can be {' or '.join(classes)}" if classes else "of no class in settings"
    mend = "" if classes else "name it in the settings: [gpu_classes]"
    return Check("gpus", True if classes else None, f"{names}: {words}", mend)


def _secrets() -> Check:
    from dotenv import dotenv_values

    from runner.config.experiment import DEFAULT_LLM_SECRET

    file = Path(".env")
    values = dotenv_values(file, interpolate=False) if file.is_file() else {}
    there = sorted(name for name, value in values.items() if value)
    words = f".env has {', '.join(there)}" if there else "no .env here"
    if os.environ.get(DEFAULT_LLM_SECRET) or DEFAULT_LLM_SECRET in there:
        return Check("secrets", True, f"{DEFAULT_LLM_SECRET} is set; {words}")
    mend = f"export {DEFAULT_LLM_SECRET}=…, or a line {DEFAULT_LLM_SECRET}=… in .env"
    return Check(
        "secrets", None, f"{DEFAULT_LLM_SECRET}, for real models, is not set; {words}", mend
    )


def _leftovers(cli: Cli) -> Iterator[Check]:
    """Sandboxes whose record is gone or whose agent is, and what they hold of the disk."""
    from runner.backends.local.leftovers import leftovers

    found = list(leftovers(cli.settings.state_dir))
    for item in found:
        if item.record is None and item.sandbox:
            words = f"{item.run_id}: its sandbox runs, and its record is gone"
            yield Check("leftovers", False, words, f"kill {item.pid}")
        elif item.record is None:
            words = f"{item.run_id}: its record is gone, and {item.root} is still there"
            yield Check("leftovers", None, words, shlex.join(["rm", "-r", str(item.root)]))
        elif item.sandbox and not item.agent:
            words = f"{item.run_id}: its sandbox runs without an agent until its idle time is over"
            where = ["--runs", str(item.record.parent)]
            mend = " or ".join(
                shlex.join(["runner", name, *where, item.run_id]) for name in ("resume", "cancel")
            )
            yield Check("leftovers", None, words, mend)
    if all(item.record and (item.agent or not item.sandbox) for item in found):
        runs = count(len(found), "workspace of a run", "workspaces of runs")
        yield Check("leftovers", True, f"none; {runs} in {cli.settings.state_dir}")
