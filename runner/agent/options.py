"""What an agent's process is told when it starts: one JSON file, no secret in it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from runner.plan import RunPlan


class AgentOptions(BaseModel):
    """One run's agent. The plan is in the record; the LLM's key is in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: Path
    url: str
    """Where the sandbox server answers, or will."""
    token_file: Path
    cancel: Path
    """There when a SIGTERM means that the run was cancelled, with the words."""
    phases: Path | None = None
    """Where the sandbox's start is written down, if the agent can see it."""
    sandbox_lock: Path | None = None
    """Held while the sandbox lives, if the agent can see it."""
    sandbox_log: Path | None = None
    """What the sandbox's processes print, likewise."""
    release: Path | None = None
    """Made when the sandbox is not needed any more, if somebody looks for it there; else the
    server is told."""
    prepared: bool = False
    """Whether preparing is over, as where init containers did it."""
    where: dict[str, str] = {}
    """What else the attempt's line says of the place: in a pod `job`, `pod`, `pod_uid`, `node`,
    and `since` when it has its GPUs."""
    reason: str = "started"
    """Why this attempt was begun."""
    plan: RunPlan | None = None
    """The plan from now on, where it may differ from the record's: a resumed run with other
    bounds."""
