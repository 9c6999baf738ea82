"""A small file out of a container, whether it runs or not."""

from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient


LONGEST = 1 << 20


def read(client: DockerClient, container: str, path: Path) -> bytes | None:
    """The first `LONGEST` bytes of a file in the container or its volumes; None without one.

    The sandbox may have put anything there.
    """
    from docker.errors import NotFound

    with translated(f"reading {path}"), contextlib.suppress(NotFound):
        pieces, _ = client.api.get_archive(container, str(path))
        held = bytearray()
        for piece in pieces:
            held += piece
            if len(held) > LONGEST:
                break
        with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(held)) as tar:
            member = tar.next()
            found = tar.extractfile(member) if member and member.isfile() else None
            return found.read(LONGEST) if found else None
    return None
