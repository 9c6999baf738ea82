"""Build, push and list the images that the containers of runs are started from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.words import seconds, size

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.images.build import Built
    from runner.images.context import Context

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Images; all if left out.", show_default=False),
]
OnBase = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="IMAGE",
        help="Build on this image, instead of the settings' (table [build]).",
    ),
]
CaBundle = Annotated[
    Path | None,
    typer.Option(
        "--ca-bundle", metavar="FILE", help="CAs that the build's downloads are checked against."
    ),
]
Registry = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY", help="Host, with port and path if need be.", show_default=False
    ),
]
Values = Annotated[
    Path | None,
    typer.Option("--values", metavar="FILE", help="Write the chart's values here, not to stdout."),
]


def build(cli: Cli, names: Names = None, base: OnBase = None, ca_bundle: CaBundle = None) -> int:
    """Build the images whose content has changed, on a Docker engine.

    A tag is a hash of the Dockerfile, the locks, the base image and the runner's source. Proxies
    and PIP_INDEX_URL are taken from the environment, for the build alone.
    """
    from runner.images.definition import read
    from runner.images.engine import connected

    contexts = read(names or ())
    with connected() as engine:
        for _, built in _build(cli, engine, contexts, base, ca_bundle):
            if cli.json:
                cli.emit(**vars(built))
            else:
                cli.say(_words(built))
    return 0


def push(
    cli: Cli,
    registry: Registry,
    names: Names = None,
    base: OnBase = None,
    ca_bundle: CaBundle = None,
    values: Values = None,
) -> int:
    """Push the images to a registry, and give the chart's values, which name them by digest.

    An image that is not built as its files are now is built first.
    """
    import yaml

    from runner.cli.building import shown_lines
    from runner.images.catalogue import Pushed, check
    from runner.images.catalogue import values as chart_values
    from runner.images.definition import read
    from runner.images.engine import connected
    from runner.images.facts import python_of
    from runner.images.push import check_registry
    from runner.images.push import push as push_image

    check_registry(registry)
    contexts = read(names or ())
    check(contexts)
    if values is not None:
        _check_folder(values)
    pushed = []
    with connected() as engine:
        for context, built in list(_build(cli, engine, contexts, base, ca_bundle)):
            cli.note(_words(built))
            with shown_lines(cli) as say:
                reference = push_image(engine, built, registry, say)
            path = context.facts.python
            python = python_of(engine, built.tag, path) if path else None
            pushed.append(Pushed(context, reference, python))
            cli.note(f"pushed {reference}")
    told = chart_values(pushed)
    text = yaml.safe_dump(told, sort_keys=False, width=100)
    if values is not None:
        values.write_text(text, encoding="utf-8")
        cli.note(f"the chart takes them: helm upgrade --install … --values {values}")
    if cli.json:
        cli.emit(**told)
    elif values is None:
        cli.say(text.rstrip())
    return 0


def list_(cli: Cli, base: OnBase = None) -> int:
    """List the images that the engine has, and whether each is of what the files here are now."""
    from runner.cli.list import table
    from runner.images.built import every
    from runner.images.definition import read
    from runner.images.engine import connected, image_id

    with connected() as engine:
        reference = base or cli.settings.build.base
        on = image_id(engine, reference)
        current = {context.tag(on): context.name for context in read()} if on else {}
        here = every(engine)
    rows = [("IMAGE", "TAG", "CURRENT", "SIZE", "CREATED")]
    for image in here:
        is_current = image.tag in current
        if cli.json:
            cli.emit(**vars(image), current=is_current)
        mark = "yes" if is_current else "no"
        rows.append((image.name, image.tag, mark, size(image.bytes), image.created[:16]))
    for tag in current.keys() - {image.tag for image in here}:
        cli.note(f"{current[tag]}: not built as it is now; runner images build {current[tag]}")
    if here and not cli.json:
        table(rows, cli)
    return 0


def _build(
    cli: Cli,
    engine: DockerClient,
    contexts: Sequence[Context],
    base: str | None,
    ca_bundle: Path | None,
) -> Iterator[tuple[Context, Built]]:
    """Each of the images, built where it is not there already."""
    from runner.cli.building import shown
    from runner.images.build import build as build_image
    from runner.images.build import find_base
    from runner.images.definition import revision

    trusted = ca_bundle or cli.settings.build.ca_bundle or _environment_ca()
    on = find_base(engine, base or cli.settings.build.base, cli.note)
    commit = revision()
    for context in contexts:
        with shown(cli) as say:
            built = build_image(engine, context, on, say, ca_bundle=trusted, revision=commit)
        yield context, built


def _words(built: Built) -> str:
    took = "is there already" if built.seconds is None else f"built in {seconds(built.seconds)}"
    return f"{built.tag}  {took}  {size(built.bytes)}"


def _environment_ca() -> Path | None:
    named = os.environ.get("SSL_CERT_FILE")
    return Path(named) if named else None


def _check_folder(file: Path) -> None:
    """Refuse a file that cannot be written before minutes are spent on what goes into it."""
    from runner.errors import UsageError

    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise UsageError(f"--values {file}: no file can be written there")


COMMANDS = {"build": build, "push": push, "list": list_}
EXAMPLES = {
    "build": """
runner images build
runner images build agent
runner images build --base registry.lab.example/debian:12 --ca-bundle /etc/lab/ca.crt
""",
    "push": """
runner images push ghcr.io/our-lab --values images.yaml
runner images push localhost:5000 --json
""",
    "list": """
runner images list
runner images list --json | jq 'select(.current).tag'
""",
}
