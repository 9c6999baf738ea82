"""What the engine is sent to build an image, and the hash of it. Pure."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.images.wheel import file_name, wheel

CA_BUNDLE = "ca.crt"
"""In the context of a build behind a private CA. It leaves no trace in the image."""
HEX = 12


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of an image besides what is found in it: `image.toml`."""

    role: str
    """`sandbox` or `agent`."""
    python: str = ""
    """Path of the kernel's Python, in a sandbox's image."""
    gpu: bool = False


@dataclass(frozen=True)
class Context:
    """One image as it is to be built."""

    name: str
    facts: Facts
    version: str
    """The runner's."""
    files: Mapping[str, bytes] = field(repr=False)
    """Dockerfile and locks."""
    source: Mapping[str, bytes] = field(repr=False)
    """The runner's own, by the path in site-packages."""

    @property
    def system_packages(self) -> tuple[str, ...]:
        """The Debian packages that it asks for."""
        return tuple(self.files.get("system.txt", b"").decode().split())

    def content(self, base: str) -> str:
        """64 hex digits that name this content on the base image of this id."""
        digest = hashlib.sha256(f"1\0{self.name}\0{self.version}\0{base}\0".encode())
        for kind, files in (("image", self.files), ("source", self.source)):
            for path, data in sorted(files.items()):
                digest.update(f"{kind}\0{path}\0{hashlib.sha256(data).hexdigest()}\0".encode())
        return digest.hexdigest()

    def tag(self, base: str) -> str:
        """The local name of the image that this content makes on this base."""
        return f"runner/{self.name}:{self.content(base)[:HEX]}"

    def archive(self, ca_bundle: bytes | None = None) -> bytes:
        """The build context as a tar archive; the same content gives the same bytes."""
        files = {**self.files, file_name(self.version): wheel(self.version, self.source)}
        if ca_bundle is not None:
            files[CA_BUNDLE] = ca_bundle
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for path, data in sorted(files.items()):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        return made.getvalue()
