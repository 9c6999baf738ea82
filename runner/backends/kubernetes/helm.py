"""Commands for the cluster's admin, as messages tell them."""

from __future__ import annotations

RELEASE, CHART = "runner", "charts/runner"


def install(namespace: str) -> str:
    """Install the chart."""
    return (
        f"helm install {RELEASE} {CHART} --namespace {namespace} --create-namespace "
        "--values images.yaml"
    )


def upgrade(namespace: str, *settings: str) -> str:
    """Change the chart's values; without settings, make its objects anew.

    With `--reuse-values` alone, a chart that is newer would lack its new values.
    """
    given = "".join(f" --set '{setting}'" for setting in settings)
    return (
        f"helm upgrade {RELEASE} {CHART} --namespace {namespace} --reset-then-reuse-values{given}"
    )
