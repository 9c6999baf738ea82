"""The images that an engine has: listed, and each shown with what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.context import Cli
from runner.cli.words import size

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.images.build import Built
    from runner.images.local import Present

ToShow = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Image, the newest of that name, or a reference.", show_default=False
    ),
]


def list_(cli: Cli) -> int:
    """List the images that the engine has, and whether each is of what the files here are now."""
    from runner.cli.list import table
    from runner.images.choice import again
    from runner.images.definition import names, read
    from runner.images.engine import connected, image_id
    from runner.images.local import every

    definitions = read(names())
    with connected() as engine:
        here = every(engine)
        bases = {image.labels.base_name for image in here} - {""}
        ids = {name: image_id(engine, name) for name in bases}
    rows = [("IMAGE", "TAG", "CURRENT", "SIZE", "CREATED")]
    missing = {context.name for context in definitions if context.facts.default}
    for image in here:
        of, now = image.labels, again(image.labels, definitions)
        is_current = now is not None and now.content(ids.get(of.base_name) or of.base) == of.content
        if is_current:
            missing.discard(of.name)
        if cli.json:
            cli.emit(**told(image), current=is_current)
        mark = "yes" if is_current else "no"
        rows.append((of.name, image.tag, mark, size(image.bytes), image.created[:16]))
    if here and not cli.json:
        table(rows, cli)
    for name in sorted(missing):
        cli.note(f"{name}: not built as it is now; runner images build {name}")
    return 0


def show(cli: Cli, name: ToShow) -> int:
    """Show what is in an image: its base, its Python, its packages, its layers."""
    from runner.images.engine import connected
    from runner.images.local import layers

    with connected() as engine:
        image = present(engine, name)
        sizes = layers(engine, image.tag)
    if cli.json:
        cli.emit(**{**told(image), **vars(image.labels)}, layers=[*map(vars, sizes)])
        return 0
    of = image.labels
    for key, value in (
        ("image", f"{of.name}, for the {of.role}{', with CUDA' if of.gpu else ''}"),
        ("tag", image.tag),
        ("id", image.id),
        ("size", size(image.bytes)),
        ("created", image.created),
        ("base", f"{of.base_name} ({of.base})"),
        ("commit", of.revision or "of a source with changes"),
        ("lock", of.lock),
        ("python", f"{of.python_version} at {of.python}"),
        ("packages", ", ".join(of.packages)),
        ("system", ", ".join(of.system_packages)),
        *(("layer", f"{size(layer.bytes):>7}  {layer.instruction[:100]}") for layer in sizes),
    ):
        cli.say(f"{key:<9} {value}")
    return 0


def present(engine: DockerClient, name: str) -> Present:
    """The newest image of this name, or the one of this reference."""
    from runner.errors import UsageError
    from runner.images.local import every, find

    found = next((image for image in every(engine) if name in (image.labels.name, image.tag)), None)
    if found := found or find(engine, name):
        return found
    raise UsageError(
        f"the engine has no image {name!r}",
        hint="`runner images list` shows which there are, `runner images build` makes them",
    )


def told(image: Built | Present) -> dict[str, Any]:
    """What programs are told of an image, besides its labels."""
    return {
        "name": image.labels.name,
        **{key: value for key, value in vars(image).items() if key != "labels"},
    }
