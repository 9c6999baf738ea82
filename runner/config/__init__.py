"""The experiment file: its models, the TOML edge, and what each backend makes of it."""

from runner.config.experiment import AgentConfig, Experiment, WorkspaceConfig
from runner.config.files import LocalDir, LocalFile
from runner.config.load import Variant, load, load_all, parse
from runner.config.machine import Gpu, HostVolume, Machine, gpus_for
from runner.config.parts import ModelConfig, RepoConfig, VolumeConfig
from runner.config.sandbox import ExecutionMode, SandboxConfig
from runner.config.support import refusals

__all__ = [
    "AgentConfig",
    "ExecutionMode",
    "Experiment",
    "Gpu",
    "HostVolume",
    "LocalDir",
    "LocalFile",
    "Machine",
    "ModelConfig",
    "RepoConfig",
    "SandboxConfig",
    "Variant",
    "VolumeConfig",
    "WorkspaceConfig",
    "gpus_for",
    "load",
    "load_all",
    "parse",
    "refusals",
]
