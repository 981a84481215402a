"""Regions: where in an image a label is, as boxes, polygons and masks, kept beside the labels of the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mask:
    """Which pixels belong to a region, as run lengths: column by column, beginning with pixels outside.

    The counts are those of COCO's uncompressed run-length encoding.

    Example:
        >>> Mask.from_pixels(np.array([[0, 1], [0, 1]], bool))
        Mask(height_px=2, width_px=2, counts=(2, 2))
    """

    height_px: int
    width_px: int
    counts: tuple[int, ...]

    @classmethod
    def from_pixels(cls, pixels_HW: BoolArray) -> Mask:
        """Return the run lengths of a table of true (inside) and false (outside) pixels."""
        flat = np.asarray(pixels_HW, bool).ravel(order="F")
        starts = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff(np.concatenate([[0], starts, [flat.size]])).tolist()
        if flat.size and flat[0]:
            counts = [0, *counts]
        return cls(pixels_HW.shape[0], pixels_HW.shape[1], tuple(counts))

    def to_pixels(self) -> BoolArray:
        """Return which pixels are inside, [H, W]."""
        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape((self.height_px, self.width_px), order="F")


@dataclass(frozen=True, slots=True)
class Region:
    """One place in an image where a label is: a box, polygons or a mask, whatever the source gave.

    Lengths are pixels of the upright image as stored in the source, fractions allowed. `box_px` is left, top, width,
    height; a polygon is x1, y1, x2, y2, ...
    """

    label: str
    box_px: tuple[float, float, float, float] | None = None
    polygons_px: tuple[tuple[float, ...], ...] = ()
    mask: Mask | None = None
