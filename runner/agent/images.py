"""Images as a model should see them."""

from __future__ import annotations

import base64
import io
import warnings
from typing import Any

from PIL import Image

LONGEST = 1_568
"""Pixels of the longer side; the API scales larger images down to this."""
MAX_BASE64 = 1_000_000
"""Characters of base64 that one image may take."""
_MAX_PIXELS = 40_000_000
_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}


class Unshowable(ValueError):
    """Why an image cannot be shown, in words."""


def image_block(data: str) -> dict[str, Any]:
    """The Messages API block for an image in base64: PNG, JPEG, GIF or WebP, of any size.

    One that fits passes as it is. Raises `Unshowable`.
    """
    try:
        raw = base64.b64decode(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw), formats=("PNG", "JPEG", "GIF", "WEBP"))
        if image.width * image.height > _MAX_PIXELS:
            raise Unshowable(f"{image.width} × {image.height} pixels are too many")
        image.load()
        media_type = _MEDIA_TYPES.get(image.format or "")
        if not media_type or max(image.size) > LONGEST or len(raw) * 4 > MAX_BASE64 * 3:
            raw, media_type = _encoded(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unshowable("its pixels are too many") from None
    except Unshowable:
        raise
    except Exception as error:  # Pillow raises whatever its decoders meet in broken data.
        raise Unshowable(f"its data is broken ({type(error).__name__})") from error
    encoded = base64.b64encode(raw).decode("ascii")
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": media_type, "data": encoded},
    }


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    """The image as PNG, else as JPEG, scaled down until it fits."""
    rgba = image.convert("RGBA")
    rgba.thumbnail((LONGEST, LONGEST))
    data = _saved(rgba, "PNG")
    if len(data) * 4 <= MAX_BASE64 * 3:
        return data, "image/png"
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, mask=rgba.getchannel("A"))
    while len(data := _saved(flat, "JPEG", quality=80)) * 4 > MAX_BASE64 * 3:
        flat.thumbnail((flat.width * 3 // 4, flat.height * 3 // 4))
    return data, "image/jpeg"


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
