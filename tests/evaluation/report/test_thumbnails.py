"""Thumbnails: small, embedded, and no more than the page has room for."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from manylabel.evaluation.report import thumbnails
from manylabel.evaluation.report.thumbnails import embed_thumbnail, embed_thumbnails

PIXELS = np.full((300, 200, 3), 120, np.uint8)


def test_a_thumbnail_is_a_small_jpeg_in_an_address() -> None:
    address = embed_thumbnail(PIXELS, 64)
    kind, data = address.split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (picture.format, picture.size) == ("JPEG", (43, 64))


def test_an_image_that_cannot_be_used_or_found_has_none(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    found = embed_thumbnails(["cut", "gone", "good", "good"], {"cut": tmp_path / "cut.jpg", "good": PIXELS})
    assert list(found) == ["good"]


def test_the_first_wanted_come_first_until_the_room_is_taken(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    sources = {str(number): PIXELS for number in range(5)}
    size = len(embed_thumbnail(PIXELS, 128))
    assert list(embed_thumbnails(["3", "1", "2"], sources, max_bytes=2 * size)) == ["3", "1"]
    monkeypatch.setattr(thumbnails, "MAX_THUMBNAILS", 3)
    assert list(embed_thumbnails(sources, sources)) == ["0", "1", "2"]
