"""Runs research experiments that an LLM agent carries out in a Jupyter notebook.

What a script imports is here, and is loaded when it is used; docs/seer.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api.harness import Message, run_agent, run_agent_interactive
    from runner.api.sandbox import Failed, Sandbox
    from runner.api.scoped import ScopedSandbox
    from runner.api.sessions import (
        NotebookSession,
        create_cli_session,
        create_local_notebook_session,
        create_local_session,
        create_notebook_session,
    )
    from runner.api.skills import Skill
    from runner.api.snapshots import Snapshot
    from runner.api.workspace import Library, Workspace
    from runner.config.parts import ModelConfig, RepoConfig
    from runner.config.sandbox import ExecutionMode, SandboxConfig

__version__ = "0.1.0"
__all__ = [
    "ExecutionMode",
    "Failed",
    "Library",
    "Message",
    "ModelConfig",
    "NotebookSession",
    "RepoConfig",
    "Sandbox",
    "SandboxConfig",
    "ScopedSandbox",
    "Skill",
    "Snapshot",
    "Workspace",
    "create_cli_session",
    "create_local_notebook_session",
    "create_local_session",
    "create_notebook_session",
    "run_agent",
    "run_agent_interactive",
]

_MODULES = {
    "runner.api.harness": ("Message", "run_agent", "run_agent_interactive"),
    "runner.api.sandbox": ("Failed", "Sandbox"),
    "runner.api.scoped": ("ScopedSandbox",),
    "runner.api.sessions": (
        "NotebookSession",
        "create_cli_session",
        "create_local_notebook_session",
        "create_local_session",
        "create_notebook_session",
    ),
    "runner.api.skills": ("Skill",),
    "runner.api.snapshots": ("Snapshot",),
    "runner.api.workspace": ("Library", "Workspace"),
    "runner.config.parts": ("ModelConfig", "RepoConfig"),
    "runner.config.sandbox": ("ExecutionMode", "SandboxConfig"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
