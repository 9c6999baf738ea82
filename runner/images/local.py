"""The images that an engine has, which tell by their labels what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.cluster import Image
from runner.errors import UsageError
from runner.images import labels
from runner.images.engine import image_id, translated
from runner.images.labels import Labels

if TYPE_CHECKING:
    from docker import DockerClient

AGENT, CLIENT, SANDBOX = "agent", "client", "sandbox"
"""What images are for."""
_NO_SHELL = "/bin/sh -c #(nop) "
"""The engine's beginning of an instruction that runs nothing."""


@dataclass(frozen=True)
class Present:
    """An image that `runner images build` made."""

    tag: str
    """Its name in this engine."""
    id: str
    """`sha256:…`"""
    bytes: int
    created: str
    """ISO 8601, UTC."""
    labels: Labels


@dataclass(frozen=True)
class Local:
    """A sandbox's image, as experiments name it."""

    image: Image
    id: str
    """`sha256:…`"""
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Agent:
    """An image of the agent."""

    tag: str
    id: str
    """`sha256:…`"""
    created: str
    """ISO 8601, UTC."""
    content: str
    """64 hex digits that name what it was built from."""


@dataclass(frozen=True)
class Layer:
    """A layer of an image that has something in it."""

    bytes: int
    instruction: str


def layers(client: DockerClient, reference: str) -> list[Layer]:
    """The layers of an image, the lowest first."""
    with translated(f"looking at the image {reference}"):
        history: list[dict[str, Any]] = client.images.get(reference).history()
    return [
        Layer(item["Size"], " ".join(item["CreatedBy"].removeprefix(_NO_SHELL).split()))
        for item in reversed(history)
        if item["Size"]
    ]


def every(client: DockerClient) -> list[Present]:
    """All images of ours, the newest first."""
    with translated("listing images"):
        # Not `client.images.list`, which asks for each one anew: it may be gone by then.
        said = client.api.images(filters={"label": labels.NAME})
    found = [present for item in said for present in _present(item)]
    return sorted(found, key=lambda image: (image.created, image.tag), reverse=True)


def _present(item: Mapping[str, Any]) -> list[Present]:
    of = labels.read(item.get("Labels"))
    if of is None:
        return []
    created = _iso(datetime.fromtimestamp(item["Created"], UTC))
    tags = [tag for tag in item.get("RepoTags") or () if tag.startswith(f"runner/{of.name}:")]
    return [Present(tag, item["Id"], item["Size"], created, of) for tag in tags]


def catalogue(client: DockerClient) -> list[Local]:
    """The sandboxes' images that the engine has, the newest first."""
    return [local(image) for image in every(client) if image.labels.role == SANDBOX]


def agents(client: DockerClient) -> list[Agent]:
    """The agent's images that the engine has, the newest first."""
    return [
        Agent(image.tag, image.id, image.created, image.labels.content)
        for image in every(client)
        if image.labels.role == AGENT
    ]


def inspect(client: DockerClient, reference: str) -> Local | None:
    """The sandbox's image of this reference, None where the engine has none of it.

    Raises UsageError for an image that is no sandbox's.
    """
    found = find(client, reference)
    if found is None:
        return None
    if found.labels.role != SANDBOX:
        raise UsageError(
            f"the image {reference} is no sandbox's: it is for the {found.labels.role}",
            hint="`runner images list` shows which there are",
        )
    return local(found)


def find(client: DockerClient, reference: str) -> Present | None:
    """The image of ours of this reference, None where the engine has none of it.

    Raises UsageError for an image that was not built by `runner images build`.
    """
    if image_id(client, reference) is None:
        return None
    with translated(f"looking at the image {reference}"):
        image = client.images.get(reference)
    of = labels.read(image.labels)
    if of is None:
        raise UsageError(
            f"the image {reference} was not built by `runner images build`, or by an earlier "
            "version of it: it does not say what is in it",
            hint=f"runner images build lab --base {reference}, puts the runner into it",
        )
    created = _iso(datetime.fromisoformat(image.attrs["Created"]))
    return Present(reference, str(image.id), int(image.attrs["Size"]), created, of)


def local(image: Present) -> Local:
    """The image, as a catalogue has it."""
    return Local(entry(image.labels, image.tag), image.id, image.created)


def entry(of: Labels, reference: str) -> Image:
    """What a catalogue says of the image of this reference."""
    return Image(
        name=of.name,
        image=reference,
        python=of.python,
        python_version=of.python_version,
        packages=of.packages,
        system_packages=of.system_packages,
        gpu=of.gpu,
    )


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
