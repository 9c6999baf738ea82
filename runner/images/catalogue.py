"""What a cluster's chart is told about the images: its values under `images`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.cluster import Image, Images
from runner.errors import UsageError
from runner.images.context import Context
from runner.images.facts import Python

AGENT, CLIENT, SANDBOX = "agent", "client", "sandbox"
"""What images are for."""
_TOLD = {"agent", "client", "catalogue"}


@dataclass(frozen=True)
class Pushed:
    """An image in a registry. `python` is the kernel's, None where there is none."""

    context: Context
    reference: str
    python: Python | None


def check(contexts: Sequence[Context]) -> None:
    """Raise UsageError where these images would not make a catalogue."""
    if not {context.facts.role for context in contexts} >= {AGENT, SANDBOX}:
        raise UsageError(
            "the chart needs the agent's image, and a sandbox's at least",
            hint="runner images push REGISTRY, without names, pushes all images",
        )


def values(pushed: Sequence[Pushed], default: str = "base") -> dict[str, Any]:
    """Helm values for the chart; the default image is the catalogue's first."""
    check([item.context for item in pushed])
    of = {item.context.facts.role: item.reference for item in pushed}
    entries = [_entry(item, item.python) for item in pushed if item.python is not None]
    entries.sort(key=lambda entry: (entry.name != default, entry.name))
    images = Images(agent=of[AGENT], client=of.get(CLIENT), catalogue=tuple(entries))
    told = images.model_dump(mode="json", by_alias=True, include=_TOLD, exclude_none=True)
    return {"images": told}


def _entry(item: Pushed, python: Python) -> Image:
    return Image(
        name=item.context.name,
        image=item.reference,
        python=python.path,
        python_version=python.version,
        packages=python.packages,
        system_packages=item.context.system_packages,
        gpu=item.context.facts.gpu,
    )
