"""Perceptual hashes: 64 bits that stay nearly the same when an image is resized, encoded again or mirrored.

Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", the DCT hash: the signs of
the low frequencies of a small grey image. Here the mirror image's hash comes from the same frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE = 32
_LOW = 8
THUMBNAIL_SIDE_PX = 16
COLOUR_SIDE_PX = 4


def _build_cosines() -> npt.NDArray[np.float32]:
    frequency = np.arange(_LOW + 1)[:, None]
    position = np.arange(_SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE)).astype(np.float32)


_COSINES = _build_cosines()
_ROWS, _COLUMNS = np.array([(row, column) for row in range(1, 9) for column in range(8)]).T
"""Which 64 frequencies are looked at: not the constant ones of each column, which light and shade change."""


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """The hash of an image and of its mirror image, and a thumbnail to check a match against.

    `thumbnail` holds 16 x 16 bytes of grey, then 4 x 4 of blue and 4 x 4 of red colour difference (YCbCr).
    """

    bits: int
    mirror_bits: int
    thumbnail: bytes


def hash_image(image: Image.Image) -> PerceptualHash:
    """Return the perceptual hash of an upright RGB image.

    Example:
        >>> hash_image(Image.new("RGB", (64, 64))).bits
        0
    """
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    grey_HW = np.asarray(small.convert("L"), np.float32)
    frequencies = _COSINES @ grey_HW @ _COSINES.T
    low = frequencies[_ROWS, _COLUMNS]
    # Mirroring turns the sign of the odd horizontal frequencies.
    mirrored = np.where(_COLUMNS % 2 == 1, -low, low)
    thumbnail = grey_HW.reshape(THUMBNAIL_SIDE_PX, 2, THUMBNAIL_SIDE_PX, 2).mean(axis=(1, 3))
    tiny = small.resize((COLOUR_SIDE_PX, COLOUR_SIDE_PX), Image.Resampling.BOX).convert("YCbCr")
    colours = tiny.getchannel("Cb").tobytes() + tiny.getchannel("Cr").tobytes()
    return PerceptualHash(_to_bits(low), _to_bits(mirrored), np.rint(thumbnail).astype(np.uint8).tobytes() + colours)


def _to_bits(values: npt.NDArray[np.float32]) -> int:
    # Rounding errors of a flat image are no picture.
    return int.from_bytes(np.packbits(values > 1e-2).tobytes(), "big")
