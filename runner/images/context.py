"""What the engine is sent to build an image, and the hash of it. Pure."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.images.wheel import file_name, wheel

CA_BUNDLE = "ca.crt"
"""In the context of a build behind a private CA. It leaves no trace in the image."""
SYSTEM = "system.txt"
"""Debian packages, one a line."""
HEX = 12


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of an image besides what is found in it: `image.toml`."""

    role: str
    """`sandbox`, `agent` or `client`."""
    python: str = ""
    """Path of the kernel's Python; of the runner's where there is no kernel."""
    gpu: bool = False
    """Whether it has CUDA, even where its base has none."""
    default: bool = True
    """Whether it is built where no image is named."""
    keeps_python: bool = False
    """Whether the kernel's Python is the one of its base, with all its packages."""


@dataclass(frozen=True)
class Context:
    """One image as it is to be built."""

    name: str
    """Mostly its folder's."""
    facts: Facts
    version: str
    """The runner's."""
    files: Mapping[str, bytes] = field(repr=False)
    """Dockerfile and locks."""
    source: Mapping[str, bytes] = field(repr=False)
    """The runner's own, by the path in site-packages."""
    folder: str = ""
    """Of its definition, where it is called otherwise."""
    added: tuple[str, ...] = ()
    """Debian packages besides those of its definition; they are in `system.txt` too."""

    @property
    def system_packages(self) -> tuple[str, ...]:
        """The Debian packages that it asks for."""
        return tuple(self.files.get(SYSTEM, b"").decode().split())

    @property
    def lock(self) -> str:
        """The digest of the locks of its Python packages."""
        digest = hashlib.sha256()
        for path, data in sorted(self.files.items()):
            if path.endswith(".txt") and path != SYSTEM:
                digest.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\0".encode())
        return f"sha256:{digest.hexdigest()}"

    def called(self, name: str) -> Context:
        """The same image by another name."""
        return replace(self, name=name, folder=self.folder or self.name)

    def adding(self, packages: Sequence[str]) -> Context:
        """The same image with more Debian packages."""
        more = sorted({*packages} - {*self.system_packages})
        if not more:
            return self
        listed = "".join(f"{name}\n" for name in sorted({*self.system_packages, *more}))
        return replace(self, files={**self.files, SYSTEM: listed.encode()}, added=tuple(more))

    def content(self, base: str) -> str:
        """64 hex digits that name this content on the base image of this id."""
        digest = hashlib.sha256(f"2\0{self.name}\0{self.version}\0{base}\0".encode())
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
