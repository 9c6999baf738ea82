"""The settings of a machine or a lab: from the environment, a TOML file, and defaults.

First wins: what the program hands in, `RUNNER_…` variables (`RUNNER_DEADLINES__START=5m`),
the TOML file, defaults. The file is the one that `RUNNER_SETTINGS` names, else `runner.toml`
in the working directory, else `settings.toml` in the user's configuration directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from runner.config.explain import config_error
from runner.config.parts import Table
from runner.config.quantities import Cpu, Duration, Size
from runner.config.refuse import refuse
from runner.config.toml import read_toml
from runner.errors import ConfigError
from runner.names import is_name
from runner.prices import PRICES, Price, price_of

FILE_VARIABLE = "RUNNER_SETTINGS"
_PREFIX = "RUNNER_"


_A100_40GB = ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB")
_A100_80GB = ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe")

GPU_CLASSES: Mapping[str, tuple[str, ...]] = {
    "A100": ("NVIDIA-A100-SXM4-80GB",),
    "A100-40GB": _A100_40GB,
    "A100-80GB": _A100_80GB,
    "A100-any": (*_A100_40GB, *_A100_80GB),
    "H100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-NVL", "NVIDIA-H100-PCIe"),
    "H200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "L4": ("NVIDIA-L4",),
    "T4": ("Tesla-T4",),
}
"""Products of each GPU class, as GPU feature discovery labels nodes (`nvidia.com/gpu.product`)."""


class Deadlines(Table):
    """How long each phase before the kernel's readiness may take."""

    prepare: Duration = Field(
        default=1800.0, description="Cloning repos, fetching models, installing packages."
    )
    start: Duration = Field(
        default=120.0, description="From the sandbox's start to a ready kernel."
    )


class Build(Table):
    """How images are built."""

    base: str = Field(
        default="debian:bookworm-slim",
        min_length=1,
        description="The image that images are built on: Debian, or a lab's own made from it.",
    )


class Docker(Table):
    """Containers on this machine's Docker engine."""

    images: tuple[str, ...] = Field(
        default=(),
        description="Images of sandboxes, the default one first; all that `runner images build` "
        "made here if left out. Names of images, or references.",
    )
    agent: str | None = Field(
        default=None,
        description="The agent's image; the newest that `runner images build` made here if left "
        "out.",
    )
    cpu: Cpu | None = Field(
        default=None, description="Cores of a sandbox whose experiment names none; all of them."
    )
    memory: Size = Field(
        default="8Gi", description="Memory of a sandbox whose experiment names none."
    )
    disk: Size = Field(
        default="20Gi", description="Space for the workspace where the experiment names none."
    )
    shm: Size = Field(default="1Gi", description="Size of /dev/shm, a part of the memory.")
    pids: int = Field(default=4096, ge=64, description="Processes and threads of a sandbox.")


class Network(Table):
    """The way out of images' builds and of containers on this machine."""

    ca_bundle: Path | None = Field(
        default=None,
        description="All CAs that are trusted, behind a private one; `SSL_CERT_FILE` of the "
        "environment if left out.",
    )
    http_proxy: str | None = Field(
        default=None, description="URL of the proxy for http://; the environment's if left out."
    )
    https_proxy: str | None = Field(
        default=None, description="URL of the proxy for https://; the environment's if left out."
    )
    no_proxy: str | None = Field(
        default=None,
        description="Hosts that are reached without a proxy, with commas between; the "
        "environment's if left out.",
    )

    def over(self, environ: Mapping[str, str]) -> Network:
        """With the environment's, where something is left out."""

        def proxy(name: str) -> str | None:
            return environ.get(name) or environ.get(name.upper()) or None

        ca = environ.get("SSL_CERT_FILE")
        return Network(
            ca_bundle=self.ca_bundle or (Path(ca) if ca else None),
            http_proxy=self.http_proxy or proxy("http_proxy"),
            https_proxy=self.https_proxy or proxy("https_proxy"),
            no_proxy=self.no_proxy or proxy("no_proxy"),
        )


class Kubernetes(Table):
    """Which cluster, and where in it."""

    context: str | None = Field(
        default=None, description="Context of the kubeconfig; the current one if left out."
    )
    namespace: str | None = Field(
        default=None, description="The team's namespace; that of the context if left out."
    )


def _runs(text: str) -> str:
    if "://" in text:
        scheme = text.split("://")[0]
        raise refuse(
            "a directory of this machine",
            found=f"`{scheme}://`",
            hint="Object stores are not in this version; sync the directory there yourself.",
        )
    if not text.strip():
        raise refuse("a directory of this machine")
    return text


def _host_directory(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise refuse("an absolute path, or one that starts with ~", found=repr(str(path)))
    return path


def _volumes(volumes: dict[str, Path]) -> dict[str, Path]:
    for name in volumes:
        if not is_name(name):
            raise refuse("names of lower case letters, digits and `-`", found=repr(name[:60]))
    return volumes


def _over(defaults: Mapping[str, Any]) -> BeforeValidator:
    """What is given joins the defaults instead of replacing all of them."""
    return BeforeValidator(lambda v: {**defaults, **v} if isinstance(v, dict) else v)


class Settings(BaseSettings):
    """Where runs go and what this machine or lab has. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    backend: Literal["local", "docker", "kubernetes"] = Field(
        default="local", description="Where sandboxes run: `local`, `docker` or `kubernetes`."
    )
    runs: Annotated[str, AfterValidator(_runs)] = Field(
        default="runs", description="Directory of the records, relative to the working directory."
    )
    state_dir: Annotated[Path, AfterValidator(_host_directory)] = Field(
        default_factory=lambda: platformdirs.user_state_path("runner"),
        description="Directory of what runs need while they go on; the user's state directory "
        "if left out.",
    )
    volumes: Annotated[
        dict[str, Annotated[Path, AfterValidator(_host_directory)]], AfterValidator(_volumes)
    ] = Field(default={}, description="Directories of this machine by the name experiments use.")
    prices: Annotated[dict[str, Price], _over(PRICES)] = Field(
        default=dict(PRICES),
        description="Dollars per million tokens by the beginning of a model's name: `input`, "
        "`output`, `cache_read`, `cache_write`. What is given joins the list prices of Claude.",
    )
    gpu_classes: Annotated[dict[str, tuple[str, ...]], _over(GPU_CLASSES)] = Field(
        default=dict(GPU_CLASSES),
        description="GPU products of each class on this machine, as node labels spell them. What "
        "is given joins the defaults. Those of a cluster are in its chart's values.",
    )
    build: Build = Field(default=Build(), description="`base` of `runner images build`.")
    docker: Docker = Field(
        default=Docker(), description="Images and bounds of containers on this machine."
    )
    network: Network = Field(
        default=Network(), description="CAs and proxies of builds and containers on this machine."
    )
    kubernetes: Kubernetes = Field(
        default=Kubernetes(), description="`context` and `namespace` of the cluster."
    )
    deadlines: Deadlines = Field(
        default=Deadlines(),
        description="`prepare` (cloning, fetching, installing) and `start` (to the kernel).",
    )
    gpu_hour_usd: float | None = Field(
        default=None, ge=0, description="What an hour of one GPU costs the lab, in dollars."
    )
    gpu_idle_timeout: Duration | None = Field(
        default=None,
        description="How long all GPUs of a run may be unused before it is wound up; an experiment "
        "may say less. No such bound if left out.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the module's docstring: .env and mounted secrets are no sources."""
        del dotenv_settings, file_secret_settings
        path = settings_file()
        data = read_toml(path, "settings file") if path else {}
        return init_settings, env_settings, InitSettingsSource(settings_cls, data)

    def price(self, model: str) -> Price | None:
        """The price of a model; None if it is unknown."""
        return price_of(model, self.prices)


def settings_file() -> Path | None:
    """The TOML file the settings are read from; None if there is none."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    usual = (Path("runner.toml"), platformdirs.user_config_path("runner") / "settings.toml")
    return next((path for path in usual if path.is_file()), None)


def load_settings(**given: Any) -> Settings:
    """The settings in force; `given` wins over every other source.

    Raises ConfigError, which names the file, variable or option that is wrong, and
    UsageError where `RUNNER_SETTINGS` names no file.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        variables = {
            name.removeprefix(_PREFIX).lower().replace("__", "."): f"environment ({name})"
            for name in os.environ
            if name.startswith(_PREFIX)
        }
        labels = {**variables, **dict.fromkeys(given, "command line")}
        file = str(settings_file() or "settings")
        raise config_error(error, Settings, file, labels) from error
    except SettingsError as error:
        raise ConfigError(
            file="environment",
            key=f"{_PREFIX}…",
            expected="JSON in a variable that is a table or list",
            found=str(error),
        ) from error
