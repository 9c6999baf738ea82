"""Builds the images that are not there already."""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import InfrastructureError, UsageError
from runner.images.context import CA_BUNDLE, Context
from runner.images.engine import image_id, problem, translated

if TYPE_CHECKING:
    from docker import DockerClient

NAME, CONTENT, BASE = "runner.image", "runner.content", "runner.base"
"""Labels by which our images are found, besides those of OCI."""
LAST_LINES = 20
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy")
_DOWNLOADS = (
    "if a download failed: --ca-bundle FILE behind a private CA, https_proxy and PIP_INDEX_URL "
    "in the environment for a proxy and a mirror"
)

Say = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """Where a build is. `line` is what its step printed last, empty where a step begins."""

    image: str
    step: int
    steps: int
    instruction: str
    line: str = ""


@dataclass(frozen=True)
class Base:
    """The image that an image is built on."""

    reference: str
    id: str


@dataclass(frozen=True)
class Built:
    """An image that the engine has."""

    name: str
    tag: str
    id: str
    bytes: int
    seconds: float | None
    """How long it took to build; None where it was there already."""


def find_base(client: DockerClient, reference: str, note: Callable[[str], None]) -> Base:
    """The base image; it is pulled where the engine has it not. Raises UsageError without one."""
    found = image_id(client, reference)
    if found is None:
        note(f"pulling {reference}")
        _pull(client, reference)
        found = image_id(client, reference)
    if found is None:
        raise _no_base(reference, "it was pulled, and is not there")
    return Base(reference, found)


def _pull(client: DockerClient, reference: str) -> None:
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    try:
        events = client.api.pull(repository, tag or "latest", stream=True, decode=True)
        problems = [words for event in events if (words := problem(event))]
    except APIError as error:
        raise _no_base(reference, str(error.explanation or error)) from error
    if problems:
        raise _no_base(reference, problems[-1])


def _no_base(reference: str, words: str) -> UsageError:
    return UsageError(
        f"the base image {reference} is not here and cannot be pulled: {words}",
        hint="--base IMAGE, or `base` in the settings' table [build], names another one",
    )


def find(client: DockerClient, context: Context, base: Base) -> Built | None:
    """The image of exactly this content, if the engine has it."""
    tag = context.tag(base.id)
    if (found := image_id(client, tag)) is None:
        return None
    with translated(f"looking at the image {tag}"):
        size = client.images.get(tag).attrs["Size"]
    return Built(context.name, tag, found, int(size), None)


def build(
    client: DockerClient,
    context: Context,
    base: Base,
    say: Say,
    *,
    ca_bundle: Path | None = None,
    revision: str | None = None,
) -> Built:
    """The image of this content, built if the engine has it not.

    `ca_bundle` holds the CAs that the build's downloads are checked against; proxies and
    package indexes are taken from the environment. None of them stays in the image.
    """
    if found := find(client, context, base):
        return found
    begun, tag = time.monotonic(), context.tag(base.id)
    trusted = _read(ca_bundle)
    with translated(f"building {context.name}"):
        events = client.api.build(
            fileobj=io.BytesIO(context.archive(trusted)),
            custom_context=True,
            tag=tag,
            buildargs=_arguments(os.environ, base.reference, trusted is not None),
            labels=_labels(context, base, revision),
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(context.name, events, say)
    found = find(client, context, base)
    if found is None:
        raise InfrastructureError(f"building {context.name}: the engine made no image {tag}")
    return Built(found.name, found.tag, found.id, found.bytes, time.monotonic() - begun)


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(
            f"{path}: the CA bundle cannot be read: {error.strerror}", hint="--ca-bundle FILE"
        ) from error


def _arguments(environ: Mapping[str, str], base: str, has_ca: bool) -> dict[str, str]:
    """The build's arguments; the engine keeps the proxies' out of the image and its history."""
    proxies = [spelling for name in _PROXIES for spelling in (name, name.upper())]
    taken = {name: environ[name] for name in (*proxies, *_PASSED_ON) if environ.get(name)}
    ca = {"CA_BUNDLE": f"/opt/images/{CA_BUNDLE}"} if has_ca else {}
    return {"BASE": base, **taken, **ca}


def _labels(context: Context, base: Base, revision: str | None) -> dict[str, str]:
    oci = "org.opencontainers.image"
    labels = {
        NAME: context.name,
        CONTENT: context.content(base.id),
        f"{oci}.version": context.version,
        f"{oci}.base.name": base.reference,
        BASE: base.id,
    }
    return {**labels, f"{oci}.revision": revision} if revision else labels


def _follow(name: str, events: Iterable[dict[str, Any]], say: Say) -> None:
    """Pass the progress on; raises InfrastructureError with a failing step's last lines."""
    now = Progress(name, 0, 0, "")
    last: deque[str] = deque(maxlen=LAST_LINES)
    words = None
    for event in events:
        words = problem(event) or words
        for line in _lines(event):
            if begins := _STEP.fullmatch(line):
                now = Progress(name, int(begins[1]), int(begins[2]), " ".join(begins[3].split()))
                last.clear()
                say(now)
            else:
                last.append(line)
                say(Progress(name, now.step, now.steps, now.instruction, line))
    if words:
        raise _failed(now, words, last)


def _lines(event: dict[str, Any]) -> list[str]:
    text = _ESCAPES.sub("", str(event.get("stream") or "")).replace("\r", "\n")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _failed(now: Progress, words: str, last: Iterable[str]) -> InfrastructureError:
    printed = "".join(f"\n  | {line}" for line in last)
    if not now.step:
        return InfrastructureError(f"building {now.image}: {words}")
    downloads = "apt-get update" in now.instruction or "--requirement" in now.instruction
    return InfrastructureError(
        f"building {now.image}: step {now.step} of {now.steps} failed: {now.instruction}\n"
        f"  {words}{printed}",
        hint=_DOWNLOADS if downloads else "",
    )
