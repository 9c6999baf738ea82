"""What may be written down of what a model says: its sandbox knows the secrets it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.errors import SandboxUnreachable
from runner.plan import RunPlan
from runner.session import Session


def masked(said: Mapping[str, Any], plan: RunPlan, session: Session) -> dict[str, Any]:
    """It without the sandbox's secrets, which the agent does not know.

    From a sandbox that is not reached any more, which ends the run, it is as it was.
    """
    if not plan.experiment.sandbox.secrets:
        return dict(said)
    try:
        return dict(session.masked(said))
    except SandboxUnreachable:
        return dict(said)
