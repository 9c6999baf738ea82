"""Where things are in a pod's containers: the manifests mount them, the commands use them."""

from __future__ import annotations

import os
from pathlib import Path

PORT = 8888
"""Of the sandbox server, on the pod's loopback interface."""

WORKSPACE = Path("/workspace")
"""emptyDir `workspace`: in all containers but the agent's."""
STATE = Path("/sandbox")
"""emptyDir `state`: the sandbox server's journal, phases, logs; read-only for the agent."""
VENV = Path("/venv")
"""emptyDir `venv`: what `install` made, where there was something to install."""
CONFIG = Path("/etc/runner")
"""ConfigMap of the Job: `plan.json`, and `record.tar.gz` where the record travels in it."""
PLAN = CONFIG / "plan.json"
SHOWN = "shown.json"
"""The plan without the names of hidden models: `plan.json` for all that need not know them."""
TRAVELLING = CONFIG / "record.tar.gz"
TOKEN = Path("/run/secrets/runner/token")
"""Key `token` of the Job's Secret: for the sandbox and the agent."""
SEEN = Path("/dev/shm/.runner-secrets")  # noqa: S108 - the pod's own volume in memory
"""Values of secrets that the sandbox had before it was started again: masked as well."""
GIT = Path("/run/secrets/git")
"""The git Secret's keys, or `credentials` as git itself stores them: in `clone` only."""
RECORD = Path("/record")
"""The record store's directory of this run (PVC) or an emptyDir (S3): `record` and `agent` only."""
CACHE = Path("/cache")
"""The shared cache claim, which init containers write; the sandbox sees its models only."""
MODELS = CACHE / "huggingface" / "hub"
"""The hub library's cache in it."""
HIDDEN = CACHE / "hidden"
"""Copies of hidden models, without their names: a directory for each run, its sandbox's alone."""
HUB = WORKSPACE / ".cache" / "huggingface" / "hub"
"""The hub library's cache of the run's own, where its code looks."""
CA_BUNDLE = Path("/etc/runner-ca/ca.crt")
"""ConfigMap with the lab's CAs, in all containers."""
TMP = Path("/tmp")  # noqa: S108 - an emptyDir of each container's own
"""emptyDir, one for each container; the root file system is read-only but in the sandbox."""
CANCEL = TMP / "cancel"
"""In the agent's container: there when a SIGTERM means that the run was cancelled."""
TERMINATION = Path(os.environ.get("RUNNER_TERMINATION", "/dev/termination-log"))
"""A line of JSON at the end: `state`, `reason`, `exit_status`, and the heads of the chains."""

TURNS = STATE / "turns"
"""Which containers have begun and which are done, where kubelet does not see to it (`turns`)."""
AGENT = STATE / "agent.lock"
"""Locked while the agent's container lives: the sandbox leaves with it."""
PHASES = STATE / "phases.jsonl"
ENVIRONMENT = STATE / "environment.json"
SANDBOX_LOG = STATE / "sandbox.log"
INSTALL_LOG = STATE / "install.log"
"""What Options calls `phases` and `environment`, and what the sandbox and uv printed."""

_OURS = (
    CA_BUNDLE.parent,
    CACHE,
    CONFIG,
    GIT,
    RECORD,
    STATE,
    TMP,
    TOKEN.parent,
    VENV,
    Path("/dev"),
    Path("/opt"),
    Path("/proc"),
    Path("/sys"),
)


def hidden_by(volume: Path) -> Path | None:
    """What a run needs that a volume of its experiment at this place would hide."""
    if volume in (WORKSPACE, Path("/")):
        return volume
    both = (
        place for place in _OURS if place.is_relative_to(volume) or volume.is_relative_to(place)
    )
    return next(both, None)
