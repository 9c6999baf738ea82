"""What a cluster's chart is told about the images: its values under `images`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.cluster import Images
from runner.errors import UsageError
from runner.images.labels import Labels
from runner.images.local import AGENT, CLIENT, SANDBOX, entry

_TOLD = {"agent", "client", "catalogue"}


@dataclass(frozen=True)
class Pushed:
    """An image in a registry."""

    labels: Labels
    reference: str


def check(images: Sequence[tuple[str, str]]) -> None:
    """Raise UsageError where images of these names and roles would not make a catalogue."""
    names = [name for name, _ in images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"two images are called {twice[0]}, and an experiment could not tell them apart",
            hint="push one of them, or build the other one by another --name",
        )
    if not {role for _, role in images} >= {AGENT, SANDBOX}:
        raise UsageError(
            "the chart needs the agent's image, and a sandbox's at least",
            hint="runner images push REGISTRY, without names, pushes all images",
        )


def values(pushed: Sequence[Pushed], default: str = "base") -> dict[str, Any]:
    """Helm values for the chart; the default image is the catalogue's first."""
    check([(item.labels.name, item.labels.role) for item in pushed])
    of = {item.labels.role: item.reference for item in pushed}
    entries = [entry(item.labels, item.reference) for item in pushed if item.labels.role == SANDBOX]
    entries.sort(key=lambda image: (image.name != default, image.name))
    images = Images(agent=of[AGENT], client=of.get(CLIENT), catalogue=tuple(entries))
    told = images.model_dump(mode="json", by_alias=True, include=_TOLD, exclude_none=True)
    return {"images": told}
