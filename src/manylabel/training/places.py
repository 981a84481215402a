"""From the regions of records to places in an image, for crops that look at them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from manylabel.augment.crops import NO_PLACES, Places
from manylabel.data.annotations import Annotations
from manylabel.data.images import image_size_px
from manylabel.data.regions import Region


class RegionPlaces:
    """Where the labels of a table's images are, as shares of the image: a JPEG may be decoded at a part of its size.

    `can_drop_L` are the labels that have a place in every image that has them: what no place shows is then not there.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.column_of = {name: column for column, name in enumerate(annotations.label_space.names)}
        self.can_drop_L = _find_placed_labels(annotations, self.column_of)
        self.size_of: dict[int, tuple[int, int]] = {}

    def find(self, row: int, truth_L: Tensor) -> Places:
        """Return the places of the labels that an image has; none where its record has no regions.

        Raises:
            ImageError: the head of the image cannot be read.
        """
        record = self.annotations.records[row]
        found = [
            (self.column_of[region.label], bounds)
            for region in record.regions
            if region.label in self.column_of and truth_L[self.column_of[region.label]] > 0
            for bounds in [find_corners(region)]
            if bounds is not None
        ]
        if not found:
            return NO_PLACES
        if row not in self.size_of:  # read once: it never changes
            self.size_of[row] = image_size_px(record.source, name=record.id)
        boxes_R4 = np.array([bounds for _, bounds in found]) / np.tile(self.size_of[row], 2)
        boxes_R4 = np.clip(boxes_R4, 0, 1)
        is_inside_R = (boxes_R4[:, 2] > boxes_R4[:, 0]) & (boxes_R4[:, 3] > boxes_R4[:, 1])
        columns_R = np.array([column for column, _ in found], np.int64)
        return Places(columns_R[is_inside_R], boxes_R4[is_inside_R])


def find_corners(region: Region) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of a region in pixels; None where it has no place, or one without area."""
    box = region.box_px if region.box_px is not None else region.find_bounds()
    if box is None or box[2] <= 0 or box[3] <= 0:
        return None
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _find_placed_labels(annotations: Annotations, column_of: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Return the labels that have a place in every image that has them."""
    is_placed_L = np.ones(len(column_of), bool)
    for row, record in enumerate(annotations.records):
        placed = {column_of.get(region.label) for region in record.regions if find_corners(region) is not None}
        for column in annotations.targets.present_columns(row):
            is_placed_L[column] &= column in placed
    return is_placed_L
