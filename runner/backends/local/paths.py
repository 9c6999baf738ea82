"""Where everything of a local sandbox lies: one directory a run, under the state directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The sandbox's directory of one run. The record is elsewhere, where the run was submitted."""

    root: Path

    @property
    def plan(self) -> Path:
        """The run's plan, as JSON."""
        return self.root / "plan.json"

    @property
    def handle(self) -> Path:
        """What `attach` reads."""
        return self.root / "handle.json"

    @property
    def lock(self) -> Path:
        """Held for as long as the sandbox's first process lives."""
        return self.root / "lock"

    @property
    def token(self) -> Path:
        """The sandbox server's token, for the user only."""
        return self.root / "token"

    @property
    def workspace(self) -> Path:
        """What the experiment calls /workspace."""
        return self.root / "workspace"

    @property
    def venv(self) -> Path:
        """The kernel's virtual environment."""
        return self.root / "venv"

    @property
    def server(self) -> Path:
        """The sandbox server's state: journal, phases."""
        return self.root / "server"

    @property
    def agent_options(self) -> Path:
        """What the agent is told."""
        return self.root / "agent.json"

    @property
    def phases(self) -> Path:
        """What happened before the server started."""
        return self.server / "phases.jsonl"

    @property
    def environment(self) -> Path:
        """What the kernel's Python has, as JSON."""
        return self.server / "environment.json"

    @property
    def runtime(self) -> Path:
        """Where the directory of the kernel's sockets is, which is not in here: see `directory`."""
        return self.root / "runtime"

    @property
    def options(self) -> Path:
        """What the sandbox server is told."""
        return self.server / "options.json"

    @property
    def install_log(self) -> Path:
        """What git and uv said."""
        return self.server / "install.log"

    @property
    def journal(self) -> Path:
        """The sandbox server's own journal."""
        return self.server / "journal.jsonl"

    @property
    def release(self) -> Path:
        """There when the agent needs the sandbox no more."""
        return self.root / "release"

    @property
    def cancel(self) -> Path:
        """There when the run was cancelled, with the words."""
        return self.root / "cancel"
