"""The `[sandbox]` table: what the place where the experiment runs needs."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from runner.config import checks
from runner.config.files import LocalDir, LocalFile
from runner.config.parts import ModelConfig, RepoConfig, SecretName, Table, VolumeConfig
from runner.config.quantities import Cpu, Duration, Size, amount
from runner.config.refuse import refuse

CACHES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
)
"""Variables that say where the hub's library keeps models, the strongest first."""

_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ExecutionMode(StrEnum):
    """How the agent works: in notebook cells, or by shell commands."""

    NOTEBOOK = "notebook"
    CLI = "cli"


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else () if value is None else value


def _gpu(name: str) -> str:
    if not _GPU.fullmatch(name):
        count = name.partition(":")[2]
        hint = f"The number has a key of its own: gpu_count = {count}." if count.isdigit() else ""
        raise refuse('the name of a GPU, such as "A100" or "H100"', hint=hint)
    return name


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = [value for value, n in Counter(values).items() if n > 1]
    if twice:
        raise refuse("each one once", found=f"{twice[0]!r} twice")
    return values


def _requirement(text: str) -> str:
    if problem := checks.requirement_problem(text):
        raise refuse("a Python package, as pip names them", hint=f"Refused, as {problem}.")
    return text.strip()


def _system_package(text: str) -> str:
    if not checks.is_system_package(text):
        raise refuse('the name of a Debian package, such as "git"')
    return text


def _python_version(text: str) -> str:
    match = re.fullmatch(r"3\.([0-9]{1,2})(\.[0-9]{1,2})?", text)
    if match is None or int(match[1]) < 10:
        raise refuse('a version of Python from "3.10" on, such as "3.12" or "3.12.4"')
    return text


def _env(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not checks.is_env_name(name):
            raise refuse("names of letters, digits and `_`", found="another name")
        if "\0" in value:
            raise refuse("text without NUL characters", found=f"one in {name}")
    return env


_Distinct = AfterValidator(_distinct)
_Requirements = tuple[Annotated[str, AfterValidator(_requirement)], ...]


class SandboxConfig(Table):
    """What the sandbox needs: hardware, software, files, secrets, time."""

    image: str | None = Field(default=None, min_length=1, description="Container image to run in.")
    gpu: Annotated[
        tuple[Annotated[str, AfterValidator(_gpu)], ...], BeforeValidator(_one_or_many), _Distinct
    ] = Field(
        default=(), description="GPU class, or a list of which any will do; none if left out."
    )
    gpu_count: StrictInt = Field(default=1, ge=1, le=64, description="How many GPUs of that class.")
    execution_mode: ExecutionMode = Field(
        default=ExecutionMode.NOTEBOOK,
        description="`notebook`: the agent works in cells; `cli`: by shell commands.",
    )
    repos: tuple[RepoConfig, ...] = Field(
        default=(),
        description="Git repositories, each cloned to its own directory of the workspace.",
    )
    system_packages: Annotated[
        tuple[Annotated[str, AfterValidator(_system_package)], ...], _Distinct
    ] = Field(default=(), description="Debian packages (or commands) that have to be there.")
    python_packages: _Requirements = Field(
        default=(), description="Python packages, as pip names them; resolved and pinned at submit."
    )
    notebook_packages: _Requirements = Field(
        default=(), description="The same; kept apart for scripts written for Seer."
    )
    python_version: Annotated[str, AfterValidator(_python_version)] | None = Field(
        default=None,
        description="Python of the kernel; that of the runner, or of the image, if left out.",
    )
    env: Annotated[dict[str, str], AfterValidator(_env)] = Field(
        default={},
        description="Environment variables of the sandbox. Not for secrets: it is recorded.",
    )
    cpu: Cpu | None = Field(default=None, description="CPU cores, as a Kubernetes quantity.")
    memory: Size | None = Field(default=None, description="Memory, as a Kubernetes quantity.")
    disk: Size | None = Field(default=None, description="Space for the workspace, likewise.")
    volumes: tuple[VolumeConfig, ...] = Field(
        default=(), description="Directories that the lab has."
    )
    local_files: tuple[LocalFile, ...] = Field(
        default=(), description='Files copied in: paths, or pairs `["here", "in the workspace"]`.'
    )
    local_dirs: tuple[LocalDir, ...] = Field(
        default=(), description="Directories copied in, likewise."
    )
    network: Literal["none"] | None = Field(
        default=None, description="`none`: the sandbox itself reaches no network."
    )
    secrets: Annotated[tuple[SecretName, ...], _Distinct] = Field(
        default=(), description="Names of secrets that the sandbox gets as environment variables."
    )
    timeout: Duration = Field(
        default=3600.0,
        description="How long the run may take, counted from the kernel's readiness.",
    )
    idle_timeout: Duration = Field(
        default=900.0, description="How long the sandbox lives when nobody uses it."
    )
    gpu_idle_timeout: Duration | None = Field(
        default=None,
        description="How long all GPUs of a run may be unused before it is wound up; as long as "
        "the lab says if left out.",
    )
    queue: str | None = Field(default=None, min_length=1, description="Kueue queue to wait in.")
    priority: str | None = Field(
        default=None, min_length=1, description="Priority class in the queue."
    )
    on_disruption: Literal["resume", "fail"] | None = Field(
        default=None, description="After an eviction: `resume` the run (the default) or `fail` it."
    )
    docker_in_docker: StrictBool = Field(default=False, description="Docker inside the sandbox.")
    debug: StrictBool = Field(default=False, description="VS Code in the browser.")
    encrypted_ports: tuple[StrictInt, ...] = Field(default=(), description="Ports to publish.")
    jupyter_port: StrictInt | None = Field(
        default=None,
        ge=1024,
        le=65535,
        description="Port of the sandbox server; a free one if left out.",
    )
    models: tuple[ModelConfig, ...] = Field(
        default=(),
        description="Models of a Hugging Face hub whose files are there before the sandbox starts.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> SandboxConfig:
        if self.gpu_count != 1 and not self.gpu:
            raise refuse("`gpu` beside `gpu_count`", found="no `gpu`")
        if self.gpu_idle_timeout is not None and not self.gpu:
            raise refuse("`gpu` beside `gpu_idle_timeout`", found="no `gpu`")
        if both := sorted(set(self.env) & set(self.secrets)):
            raise refuse("a variable in `env` or in `secrets`", found=f"{both[0]} in both")
        if self.models and (moved := [name for name in CACHES if name in self.env]):
            raise refuse(
                "`models`, or a cache of your own in `env`",
                found=f"{moved[0]} in `env`",
                hint="With it, code would not find the models that were fetched for it.",
            )
        if twice := [
            m
            for m, n in Counter((m.name, m.revision or "main") for m in self.models).items()
            if n > 1
        ]:
            raise refuse("each model and revision once", found=f"{twice[0][0]!r} twice")
        variables = [name for m in self.models for name in (m.var_name, m.tokenizer) if name]
        if again := [name for name, n in Counter(variables).items() if n > 1]:
            raise refuse(
                "a variable of its own for each model and tokenizer", found=f"{again[0]!r} twice"
            )
        _check_places(self)
        return self

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """Names of every secret that the sandbox, and what prepares it, gets."""
        fetching = tuple(model.secret for model in self.models if model.secret)
        return tuple(dict.fromkeys(self.secrets + fetching))

    @property
    def packages(self) -> tuple[str, ...]:
        """Every Python package that is asked for, each once."""
        return tuple(dict.fromkeys(self.python_packages + self.notebook_packages))

    @property
    def gpus_held(self) -> int:
        """How many GPUs the run holds."""
        return self.gpu_count if self.gpu else 0

    @property
    def cores(self) -> float | None:
        """`cpu` as a number of cores."""
        return None if self.cpu is None else float(amount(self.cpu))

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else int(amount(self.memory))

    @property
    def disk_bytes(self) -> int | None:
        """`disk` in bytes."""
        return None if self.disk is None else int(amount(self.disk))


def _check_places(sandbox: SandboxConfig) -> None:
    """Refuse two things at one place of the workspace, and copies into a volume or outputs/."""
    places = [("repos", repo.name) for repo in sandbox.repos]
    places += [("volumes", volume.path) for volume in sandbox.volumes]
    places += [("local_dirs", copied.path) for copied in sandbox.local_dirs]
    places += [("models", ".cache")] if sandbox.models else []
    places += [("local_files", copied.path) for copied in sandbox.local_files]
    for i, (key, path) in enumerate(places):
        if path.split("/")[0] == "outputs":
            raise refuse("a place other than outputs/, which is the agent's", found=f"it in {key}")
        for other_key, other in places[:i]:
            # What is copied may lie in a directory that is copied; a clone is the repo's alone.
            around = (key, other_key)[path.startswith(f"{other}/")]
            nested = path.startswith(f"{other}/") or other.startswith(f"{path}/")
            if path == other or (nested and around != "local_dirs"):
                raise refuse(
                    "a place of its own in the workspace for each repo, volume, file and directory",
                    found=f"{path!r} in {key} and {other!r} in {other_key}",
                )
