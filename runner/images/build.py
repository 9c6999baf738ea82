"""Builds the images that are not there already."""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import InfrastructureError, RunnerError, UsageError
from runner.images import labels, local
from runner.images.context import CA_BUNDLE, Context
from runner.images.engine import full, image_id, problem, translated
from runner.images.facts import Python, python_of, system_packages_of
from runner.images.labels import Labels
from runner.settings import Network

if TYPE_CHECKING:
    from docker import DockerClient

LAST_LINES = 20
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_REFUSED = re.compile(
    r"(?:refused: |E: (?=Unable to locate package |Package .* has no installation))(?P<why>.*)"
)
"""What a step says that only the user can mend."""
_DOWNLOADS = (
    "if a download failed: --ca-bundle FILE behind a private CA, https_proxy and PIP_INDEX_URL "
    "in the environment for a proxy and a mirror"
)

NO_NETWORK = Network()
"""The machine's own, without a proxy or another CA."""

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
    labels: Labels = field(repr=False)


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


def _no_base(reference: str, words: str) -> RunnerError:
    said = f"the base image {reference} is not here and cannot be pulled: {words}"
    if hint := full(words):
        return InfrastructureError(said, hint=hint)
    return UsageError(
        said,
        hint="--base IMAGE, or `base` in the settings' table [build], names another one; where "
        "its registry wants it, `docker login REGISTRY` comes first",
    )


def find(client: DockerClient, context: Context, base: Base) -> Built | None:
    """The image of exactly this content, if the engine has it."""
    found = local.find(client, context.tag(base.id))
    if found is None:
        return None
    return Built(context.name, found.tag, found.id, found.bytes, None, found.labels)


def build(
    client: DockerClient,
    context: Context,
    base: Base,
    say: Say,
    *,
    network: Network = NO_NETWORK,
    python: str = "",
    revision: str | None = None,
) -> Built:
    """The image of this content, built if the engine has it not.

    `network` has the CAs that the build's downloads are checked against, and proxies; package
    indexes are taken from the environment. None of them stays in the image. `python` is the
    base's own, for an image that keeps it.
    """
    if there := find(client, context, base):
        return there
    begun = time.monotonic()
    trusted = _read(network.ca_bundle)
    arguments = _arguments(os.environ, network, base.reference, python, trusted is not None)
    made = _make(client, context, say, arguments, trusted)
    path = context.facts.python
    found = python_of(client, made, path) if path else Python("", "", ())
    # A lab's image has more than its definition says.
    more = system_packages_of(client, made) if context.facts.keeps_python else ()
    # The tag comes with the labels: what is interrupted before leaves nothing that looks whole.
    told = labels.write(_labels(context, base, found, more, revision))
    with translated(f"labelling {context.name}"):
        events = client.api.build(
            fileobj=io.BytesIO(f"FROM {made}\n".encode()),
            tag=context.tag(base.id),
            labels=told,
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(context.name, events, lambda _: None)
    built = find(client, context, base)
    if built is None:
        raise InfrastructureError(
            f"building {context.name}: the engine made no image {context.tag(base.id)}"
        )
    return replace(built, seconds=time.monotonic() - begun)


def _make(
    client: DockerClient,
    context: Context,
    say: Say,
    arguments: Mapping[str, str],
    trusted: bytes | None,
) -> str:
    """The id of the image that the Dockerfile makes, without tag and labels."""
    with translated(f"building {context.name}"):
        events = client.api.build(
            fileobj=io.BytesIO(context.archive(trusted)),
            custom_context=True,
            buildargs=dict(arguments),
            rm=True,
            forcerm=True,
            decode=True,
        )
        return _follow(context.name, events, say)


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(
            f"{path}: the CA bundle cannot be read: {error.strerror}", hint="--ca-bundle FILE"
        ) from error


def _proxies(network: Network) -> dict[str, str]:
    """Variables of the way out, in both spellings.

    The engine takes them as a build's arguments, and keeps them out of the image's history.
    """
    given = {name: getattr(network, name) for name in _PROXIES}
    lower = {name: value for name, value in given.items() if value}
    return lower | {name.upper(): value for name, value in lower.items()}


def _arguments(
    environ: Mapping[str, str], network: Network, base: str, python: str, has_ca: bool
) -> dict[str, str]:
    """The build's arguments, none of which stays in the image."""
    indexes = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
    more = {"PYTHON": python} if python else {}
    ca = {"CA_BUNDLE": f"/opt/images/{CA_BUNDLE}"} if has_ca else {}
    return {"BASE": base, **_proxies(network), **indexes, **more, **ca}


def _labels(
    context: Context, base: Base, python: Python, more: Sequence[str], revision: str | None
) -> Labels:
    return Labels(
        name=context.name,
        role=context.facts.role,
        content=context.content(base.id),
        folder=context.folder or context.name,
        added=context.added,
        base=base.id,
        base_name=base.reference,
        lock=context.lock,
        python=python.path,
        python_version=python.version,
        packages=python.packages,
        system_packages=tuple(sorted({*context.system_packages, *more})),
        gpu=context.facts.gpu or python.cuda,
        version=context.version,
        revision=revision,
    )


def _follow(name: str, events: Iterable[dict[str, Any]], say: Say) -> str:
    """Pass the progress on; the id of what was built.

    Raises InfrastructureError with a failing step's last lines, UsageError where they say that
    what was asked for cannot be.
    """
    now = Progress(name, 0, 0, "")
    last: deque[str] = deque(maxlen=LAST_LINES)
    words, made, begun = None, "", ""
    for event in chain(events, ({"stream": "\n"},)):
        made = (event.get("aux") or {}).get("ID", made)
        words = problem(event) or words
        lines, begun = _lines(begun, event)
        for line in lines:
            if begins := _STEP.fullmatch(line):
                now = Progress(name, int(begins[1]), int(begins[2]), " ".join(begins[3].split()))
                last.clear()
                say(now)
            else:
                last.append(line)
                say(Progress(name, now.step, now.steps, now.instruction, line))
    if words or not made:
        raise _failed(now, words or "the engine ended without an image", last)
    return made


def _lines(begun: str, event: dict[str, Any]) -> tuple[list[str], str]:
    """The lines that an event ends, and the beginning of the next one: it may come in pieces."""
    text = begun + _ESCAPES.sub("", str(event.get("stream") or "")).replace("\r", "\n")
    *lines, rest = text.split("\n")
    return [line.rstrip() for line in lines if line.strip()], rest


def _failed(now: Progress, words: str, last: Collection[str]) -> RunnerError:
    for line in last:
        if refused := _REFUSED.match(line):
            return UsageError(f"building {now.image}: {refused['why']}")
    printed = "".join(f"\n  | {line}" for line in last)
    if not now.step:
        return InfrastructureError(f"building {now.image}: {words}", hint=full(words))
    downloads = "apt-get update" in now.instruction or "--requirement" in now.instruction
    return InfrastructureError(
        f"building {now.image}: step {now.step} of {now.steps} failed: {now.instruction}\n"
        f"  {words}{printed}",
        hint=full(words, *last) or (_DOWNLOADS if downloads else ""),
    )
