"""Which image of a catalogue an experiment gets, and why none will do. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Sequence

from runner import pins
from runner.cluster import Image
from runner.config.sandbox import SandboxConfig
from runner.errors import ConfigError


def choose(sandbox: SandboxConfig, catalogue: Sequence[Image]) -> Image | None:
    """The image that is named, else the first one that fits best; None where none can do.

    It must have the Python that is asked for. Of those, one that has all the system packages
    is better, then one with CUDA where a GPU is asked for, then one that has all the Python
    packages, so that nothing has to be installed.
    """
    if sandbox.image is not None:
        return next((one for one in catalogue if sandbox.image in (one.name, one.image)), None)
    able = [image for image in catalogue if has_python(image, sandbox.python_version)]

    def lacks(image: Image) -> tuple[bool, bool, bool]:
        missing = pins.missing(sandbox.packages, image.packages, image.python_version)
        return bool(lacking(sandbox, image)), bool(sandbox.gpu) and not image.gpu, bool(missing)

    return min(able, key=lacks, default=None)


def has_python(image: Image, version: str | None) -> bool:
    """Whether the image's Python is of this version, given as `3.12` or `3.12.4`."""
    return version is None or f"{image.python_version}.".startswith(f"{version}.")


def lacking(sandbox: SandboxConfig, image: Image) -> tuple[str, ...]:
    """The system packages that the image does not have."""
    return tuple(name for name in sandbox.system_packages if name not in image.system_packages)


def problems(
    sandbox: SandboxConfig, catalogue: Sequence[Image], file: str, *, whose: str, more: str
) -> Iterator[ConfigError]:
    """Why no image will do. `whose` catalogue it is; `more` says how it gets another image."""
    image = choose(sandbox, catalogue)
    if image is None and sandbox.image is not None:
        names = [entry.name for entry in catalogue]
        yield ConfigError(
            file=file,
            key="sandbox.image",
            expected=f"an image of {whose}: {', '.join(names)}",
            found=repr(sandbox.image),
            hint=nearest(sandbox.image, names) or more,
        )
        return
    if image is None or not has_python(image, sandbox.python_version):
        there = ", ".join(f"{entry.python_version} in {entry.name}" for entry in catalogue)
        yield ConfigError(
            file=file,
            key="sandbox.python_version",
            expected=f"a Python of {whose}: {there}",
            found=repr(sandbox.python_version),
            hint="Nothing installs a Python at run time: remove it, or name an image that has it.",
        )
        return
    if missing := lacking(sandbox, image):
        yield ConfigError(
            file=file,
            key="sandbox.system_packages",
            expected=f"packages that the image {image.name} has: "
            + (", ".join(image.system_packages) or "none"),
            found=f"{', '.join(missing)} missing",
            hint=_other_image(missing, catalogue) or _with(image, missing, more),
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what was meant; empty where nothing is like it."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f"Did you mean `{by_lower[near[0]]}`?" if near else ""


def _other_image(missing: Sequence[str], catalogue: Sequence[Image]) -> str:
    having = [image.name for image in catalogue if set(missing) <= set(image.system_packages)]
    return f'`sandbox.image = "{having[0]}"` has them.' if having else ""


def _with(image: Image, missing: Sequence[str], more: str) -> str:
    add = [word for name in missing for word in ("--add", name)]
    line = shlex.join(["runner", "images", "build", image.name, *add])
    return f"Nothing installs system packages at run time. An image that has them: {line}. {more}"
