"""A run's containers, wherever they are started: which there are, their images and variables.

Names of secrets, no values. Pure.
"""

from __future__ import annotations

from runner.plan import RunPlan
from runner.pod import layout

READ_ONLY = ("record", "clone", "models", "install", "agent")
"""Containers whose root file system is read-only: all but the sandbox."""

OURS = ("record", "agent")
"""Containers on the agent's image; the others are on the sandbox's."""

_HERE = ("localhost", "127.0.0.1", "::1")
_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
)


def network(
    http_proxy: str | None,
    https_proxy: str | None,
    no_proxy: str | None,
    *,
    ca_bundle: bool,
    near: tuple[str, ...] = (),
) -> dict[str, str]:
    """Proxies in both spellings, as programs differ; the way to the sandbox goes past them.

    `near` are names besides the loopback's that are reached directly.
    """
    proxies = {"HTTP_PROXY": http_proxy, "HTTPS_PROXY": https_proxy}
    given = {name: value for name, value in proxies.items() if value}
    if given:
        others = [host.strip() for host in (no_proxy or "").split(",") if host.strip()]
        given["NO_PROXY"] = ",".join(dict.fromkeys([*others, *_HERE, *near]))
    lower = {name.lower(): value for name, value in given.items()}
    certificates = dict.fromkeys(_CA_VARIABLES, str(layout.CA_BUNDLE)) if ca_bundle else {}
    return given | lower | certificates


def caches() -> dict[str, str]:
    """What code downloads counts as workspace; the shared cache cannot be written by it."""
    home = layout.HUB.parent
    return {
        "XDG_CACHE_HOME": str(home.parent),
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(layout.HUB),
    }


def secrets_of(container: str, plan: RunPlan) -> tuple[str, ...]:
    """Names of the secrets that a container has as variables."""
    own = plan.experiment
    if container == "sandbox":
        return own.sandbox.secrets
    if container == "models":
        return tuple(dict.fromkeys(model.secret for model in plan.models if model.secret))
    return (own.agent.llm_secret,) if container == "agent" and own.agent.llm_secret else ()


def steps(plan: RunPlan) -> list[str]:
    """A run's containers in their order: what prepares, the sandbox, and the agent if any."""
    found = ["record"]
    if plan.repos:
        found.append("clone")
    if plan.models:
        found.append("models")
    if installs(plan):
        found.append("install")
    return [*found, "sandbox", "agent"] if plan.agent else [*found, "sandbox"]


def installs(plan: RunPlan) -> bool:
    """Whether packages are installed before the sandbox starts."""
    return bool(plan.to_install) or any(repo.install for repo in plan.repos)


def image(name: str, plan: RunPlan) -> str:
    """The image of a container. Raises ValueError for a plan that was not made for containers."""
    if plan.images is None:
        raise ValueError(f"the plan of {plan.run_id} names no images")
    return plan.images.agent if name in OURS else plan.images.sandbox
