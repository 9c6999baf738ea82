"""Whether images are of the runner that uses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runner import __version__
from runner.images import local
from runner.images.definition import FOLDER, names, read

if TYPE_CHECKING:
    from docker import DockerClient


def outdated(client: DockerClient, references: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """The images that are not, each with the folder that it is made from, and the reason.

    In a clone of the runner's repository the source is compared, elsewhere the version.
    """
    sources = {context.name: context for context in read(names())} if FOLDER.is_dir() else {}
    for reference in references:
        image = local.find(client, reference)
        if image is None:
            continue
        of = image.labels
        context = sources.get(of.folder)
        if of.version != __version__:
            yield reference, of.folder, f"of runner {of.version}, and this is {__version__}"
        elif context is None or of.added or of.name != of.folder:
            continue  # with something of the lab's own in it
        elif context.content(of.base) != of.content:
            yield reference, of.folder, "made from other files than those here now"
