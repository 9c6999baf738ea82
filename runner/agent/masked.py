"""What may be written down of what a model says: its sandbox knows the secrets it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.plan import RunPlan
from runner.session import Session


def masked(said: Mapping[str, Any], plan: RunPlan, session: Session) -> dict[str, Any]:
    """It without the sandbox's secrets, which the agent does not know.

    Raises SandboxUnreachable when the sandbox stays away.
    """
    return dict(session.masked(said)) if plan.experiment.sandbox.secrets else dict(said)
