"""What each container of a run is told on its stdin: its own secrets, and no other's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from runner import git
from runner.plan import RunPlan
from runner.pod import layout, told, variables
from runner.pod.models import LOGIN

HUB = ("HF_ENDPOINT",)
_INDEXES = re.compile(
    r"(PIP|UV)_((DEFAULT_|EXTRA_)?INDEX(_URL)?|INDEX_STRATEGY|NO_INDEX"
    r"|INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD))"
)
"""Variables that say where packages come from, and with which password."""


def messages(plan: RunPlan, secrets: Mapping[str, str], token: str) -> dict[str, bytes]:
    """By container. `secrets` has the values of all that the plan names."""
    return {step: _message(step, plan, secrets, token) for step in variables.steps(plan)}


def _message(step: str, plan: RunPlan, secrets: Mapping[str, str], token: str) -> bytes:
    env = {name: secrets[name] for name in variables.secrets_of(step, plan)}
    files = {}
    if step == "clone" and (stored := git.credentials([repo.url for repo in plan.repos])):
        files[layout.GIT / "credentials"] = stored
    if step == "models":
        env |= _login() | _of_environment(HUB)
    if step == "install":
        env |= {name: value for name, value in os.environ.items() if _INDEXES.fullmatch(name)}
    if step in ("sandbox", "agent"):
        files[layout.TOKEN] = token
    if step == "sandbox":
        env = _of_environment(HUB) | env
    return told.message(env, files)


def _of_environment(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _login() -> dict[str, str]:
    """The user's own login at the hub, as its library finds it; none if there is none."""
    from huggingface_hub import get_token

    found = get_token()
    return {LOGIN: found} if found else {}
