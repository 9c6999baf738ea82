"""What has to be installed beside what an image has, pinned. Asks uv, and so an index."""

from __future__ import annotations

from collections.abc import Sequence

from runner import packages, pins
from runner.cluster import Image
from runner.errors import UsageError

UV_DEADLINE_S = 120.0


def lacking(asked: Sequence[str], image: Image) -> tuple[str, ...]:
    """Those of an experiment's packages, and of what every sandbox has, that the image lacks."""
    return pins.missing((*packages.BASE, *asked), image.packages, image.python_version)


def pinned(missing: Sequence[str], image: Image) -> pins.Pins:
    """All that the kernel's Python will have.

    Raises UsageError where what is missing does not go with the versions that the image has.
    """
    new: tuple[str, ...] = ()
    if missing:
        try:
            new = packages.resolve_over(
                missing, image.packages, image.python_version, UV_DEADLINE_S
            )
        except UsageError as error:
            raise UsageError(
                error.message,
                hint=f"the image {image.name} keeps its own packages: ask for versions that go "
                "with them, or name another image",
            ) from error
    return pins.together(new, image.packages)
