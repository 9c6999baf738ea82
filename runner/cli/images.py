"""Build, list, show and push the images that the containers of runs are started from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.images_there import list_, present, show, told
from runner.cli.words import seconds, size

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.images.build import Base, Built
    from runner.images.context import Context

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="Images; agent, base and client if left out.", show_default=False
    ),
]
ToPush = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Images, or tags of `runner images list`; agent, base and client if left out.",
        show_default=False,
    ),
]
Called = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Call the image so, instead of by its folder."),
]
Added = Annotated[
    list[str] | None,
    typer.Option(
        "--add", metavar="PKG", help="A Debian package that the image has besides; repeatable."
    ),
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


def build(
    cli: Cli,
    names: Names = None,
    base: OnBase = None,
    called: Called = None,
    added: Added = None,
    ca_bundle: CaBundle = None,
) -> int:
    """Build the images whose content has changed, on a Docker engine.

    A tag is a hash of the Dockerfile, the locks, the base image and the runner's source. Without
    NAME, where --base has a Python with packages of its own, the image `lab` is built on it, and
    the kernel keeps that Python. Proxies and CAs are those of the settings, else of the
    environment, as PIP_INDEX_URL is: for the build alone.
    """
    from runner.images.build import find_base
    from runner.images.choice import LAB, choose
    from runner.images.engine import connected
    from runner.images.probe import probe

    known = names or base is None
    contexts = choose(names or (), called, added or ()) if known else []
    with connected() as engine:
        on = find_base(engine, base or cli.settings.build.base, cli.note)
        if not known:
            there = probe(engine, on.reference)
            if there.packages:
                cli.note(f"{base}: the kernel keeps {there.python} and its packages")
            contexts = choose((LAB,) if there.packages else (), called, added or ())
        for built in _build(cli, engine, contexts, on, ca_bundle):
            if cli.json:
                cli.emit(**told(built))
            else:
                cli.say(_words(built))
    return 0


def push(
    cli: Cli,
    registry: Registry,
    names: ToPush = None,
    base: OnBase = None,
    ca_bundle: CaBundle = None,
    values: Values = None,
) -> int:
    """Push the images to a registry, and give the chart's values, which name them by digest.

    An image that is not built as its files are now is built first. One of another base, as a
    lab's, is pushed by its tag.
    """
    import yaml

    from runner.cli.building import shown_lines
    from runner.images.build import find_base
    from runner.images.catalogue import Pushed, check
    from runner.images.catalogue import values as chart_values
    from runner.images.definition import read
    from runner.images.engine import connected
    from runner.images.push import check_registry
    from runner.images.push import push as push_image

    check_registry(registry)
    tags = [name for name in names or () if ":" in name]
    others = [name for name in names or () if ":" not in name]
    contexts = read(others) if others or not tags else []
    if values is not None:
        _check_folder(values)
    pushed = []
    with connected() as engine:
        there = [present(engine, tag) for tag in tags]
        wanted = [(image.labels.name, image.labels.role) for image in there]
        check([*wanted, *((context.name, context.facts.role) for context in contexts)])
        if contexts:
            on = find_base(engine, base or cli.settings.build.base, cli.note)
            for built in _build(cli, engine, contexts, on, ca_bundle):
                cli.note(_words(built))
                there.append(present(engine, built.tag))
        for image in there:
            with shown_lines(cli) as say:
                reference = push_image(engine, image, registry, say)
            pushed.append(Pushed(image.labels, reference))
            cli.note(f"pushed {reference}")
    given = chart_values(pushed)
    text = yaml.safe_dump(given, sort_keys=False, width=100)
    if values is not None:
        values.write_text(text, encoding="utf-8")
        cli.note(f"the chart takes them: helm upgrade --install … --values {values}")
    if cli.json:
        cli.emit(**given)
    elif values is None:
        cli.say(text.rstrip())
    return 0


def _build(
    cli: Cli, engine: DockerClient, contexts: Sequence[Context], on: Base, ca_bundle: Path | None
) -> Iterator[Built]:
    """Each of the images, built where it is not there already."""
    from runner.cli.building import shown
    from runner.images.build import build as build_image
    from runner.images.build import find
    from runner.images.definition import revision
    from runner.images.probe import check, probe

    given = cli.settings.network.over(os.environ)
    network = given.model_copy(update={"ca_bundle": ca_bundle or given.ca_bundle})
    commit, base = revision(), None
    for context in contexts:
        if there := find(engine, context, on):
            yield there
            continue
        base = base or probe(engine, on.reference)
        check(context, base)
        python = base.python if context.facts.keeps_python else ""
        with shown(cli) as say:
            yield build_image(
                engine, context, on, say, network=network, python=python, revision=commit
            )


def _words(built: Built) -> str:
    took = "is there already" if built.seconds is None else f"built in {seconds(built.seconds)}"
    return f"{built.tag}  {took}  {size(built.bytes)}"


def _check_folder(file: Path) -> None:
    """Refuse a file that cannot be written before minutes are spent on what goes into it."""
    from runner.errors import UsageError

    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise UsageError(f"--values {file}: no file can be written there")


COMMANDS = {"build": build, "list": list_, "show": show, "push": push}
EXAMPLES = {
    "build": """
runner images build
runner images build agent
runner images build --base registry.lab.example/debian:12 --ca-bundle /etc/lab/ca.crt
runner images build base --add ffmpeg --add libsndfile1
runner images build gpu
runner images build --base lab/torch:2.9 --name torch
""",
    "push": """
runner images push ghcr.io/our-lab --values images.yaml
runner images push ghcr.io/our-lab agent client base runner/torch:719b77d871f8 --values images.yaml
runner images push localhost:5000 --json
""",
    "list": """
runner images list
runner images list --json | jq 'select(.current).tag'
""",
    "show": """
runner images show base
runner images show runner/torch:719b77d871f8
runner images show base --json | jq -r '.packages[]'
""",
}
