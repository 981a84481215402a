"""Thumbnails: small pictures that a page holds in itself, as many as its size allows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping

from manylabel.data.images import ImageError, ImageSource, load_image

MAX_THUMBNAILS = 400
MAX_BYTES = 3_000_000
"""What the thumbnails of one page may take together, as text."""


def embed_thumbnail(source: ImageSource, size_px: int) -> str:
    """Return an image as the address of a small JPEG that holds it, "" where the image cannot be used."""
    try:
        picture = load_image(source, min_size_px=(size_px, size_px))
    except ImageError:
        return ""
    picture.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def embed_thumbnails(
    wanted: Iterable[str], sources: Mapping[str, ImageSource], size_px: int = 128, max_bytes: int = MAX_BYTES
) -> dict[str, str]:
    """Return the thumbnails of images by their name, in the order in which they are wanted, until the room is taken.

    An image without a source, or that cannot be used, has none.
    """
    found: dict[str, str] = {}
    num_bytes = 0
    for image in wanted:
        if image in found or image not in sources:
            continue
        address = embed_thumbnail(sources[image], size_px)
        num_bytes += len(address)
        if num_bytes > max_bytes or len(found) == MAX_THUMBNAILS:
            break
        if address:
            found[image] = address
    return found
