"""What a sandbox server is told when it starts: one JSON file, no secret in it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """One sandbox. Paths are absolute, times in seconds, sizes in bytes.

    `secrets` are names of environment variables; their values are in the
    server's environment, go on to the kernel, and are masked in all output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    name: str
    workspace: Path
    state: Path
    """Journal, notebook and kernel spec; survives a restart of the server."""
    runtime: Path
    """For the kernel's Unix sockets: a short path, as theirs end at about 100 characters."""
    token_file: Path
    python: Path
    """The Python that the kernel runs on."""
    import_paths: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    """Directories outside the workspace that links in it may lead to (volumes)."""
    env: dict[str, str] = {}
    """What the experiment sets for its own code; the server goes without it."""
    preload: str = ""
    """Code that runs in the kernel, hidden, whenever it starts, before anything else."""
    secrets: tuple[str, ...] = ()
    seen: Path | None = None
    """Where, in memory, the values are kept that an earlier server of this sandbox had."""
    timeout_s: float
    """Time of the run, counted from the kernel's readiness; what is left of it, when resumed."""
    idle_timeout_s: float
    gpus: int = 0
    """How many GPUs the run holds."""
    gpu_uuids: tuple[str, ...] = ()
    """Which, where nvidia-smi shows others as well."""
    gpu_idle_s: float | None = None
    """How long all of them may be unused."""
    agent: bool = True
    """Whether an agent drives it, which winds up when something is over."""
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    address: str = "127.0.0.1"
    """That the server listens on; another one where only those it is for can reach it."""
    port: int = 0
    headers_s: float = 30.0
    """How long a client may take for the head of a request, or hold an idle connection."""
    body_s: float = 300.0
    """How long it may take for a body, but for those of uploads."""
    socket_fd: int | None = None
    """A listening socket that was inherited; `port` is then not used."""

    @property
    def journal(self) -> Path:
        """The append-only truth."""
        return self.state / "journal.jsonl"

    @property
    def phases(self) -> Path:
        """What was done before the server started, a JSON line each."""
        return self.state / "phases.jsonl"

    @property
    def environment(self) -> Path:
        """What the kernel's Python has, as JSON."""
        return self.state / "environment.json"
