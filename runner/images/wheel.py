"""The runner's source as a wheel, so that an image needs no build backend. Pure."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping

_EPOCH = (1980, 1, 1, 0, 0, 0)


def file_name(version: str) -> str:
    """What pip wants a wheel of this version to be called."""
    return f"runner-{version}-py3-none-any.whl"


def wheel(version: str, files: Mapping[str, bytes]) -> bytes:
    """A wheel with these files, by their path in site-packages. The same give the same bytes."""
    info = f"runner-{version}.dist-info"
    entries = {
        **dict(sorted(files.items())),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: runner\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_hash(data)},{len(data)}" for path, data in entries.items()]
    record.append(f"{info}/RECORD,,")
    entries[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            archive.writestr(_entry(path), data)
    return made.getvalue()


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    return entry


def _hash(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
