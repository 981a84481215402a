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

    def find_bounds(self) -> tuple[float, float, float, float] | None:
        """Return the smallest box around polygons and mask, left, top, width, height; None where there is neither."""
        points = [np.array(polygon).reshape(-1, 2) for polygon in self.polygons_px]
        if self.mask is not None:
            rows, columns = np.nonzero(self.mask.to_pixels())
            if len(rows):
                points.append(np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]))
        if not points:
            return None
        corners = np.concatenate(points)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return float(left), float(top), float(right - left), float(bottom - top)

    @property
    def area_px(self) -> float:
        """The area of the mask, else of the polygons (shoelace formula), else of the box; 0 where there is none."""
        if self.mask is not None:
            return float(sum(self.mask.counts[1::2]))
        if self.polygons_px:
            return sum(_polygon_area(polygon) for polygon in self.polygons_px)
        return self.box_px[2] * self.box_px[3] if self.box_px is not None else 0.0


def _polygon_area(polygon: tuple[float, ...]) -> float:
    x, y = np.array(polygon).reshape(-1, 2).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
