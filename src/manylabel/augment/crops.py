"""Random crops that look where the labelled objects are, and what a crop that cuts one out does to the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

Window = tuple[float, float, float, float]
"""Left, top, right, bottom of a crop, as shares of the image's width and height."""

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)

VISIBLE_SHARE = 0.25
"""A region is seen from here on: a quarter of its box is in the crop, or its box fills a quarter of the crop."""

TRIES = 10
"""How many crops are drawn before the whole image is taken."""


@dataclass(frozen=True)
class Places:
    """Where the labels of one image are: boxes as shares of its width and height, inside it and not empty.

    Shapes: R regions; `columns_R` is the label's column, `boxes_R4` is left, top, right, bottom.
    """

    columns_R: npt.NDArray[np.int64]
    boxes_R4: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.columns_R)


NO_PLACES = Places(np.zeros(0, np.int64), np.zeros((0, 4)))


def measure_visible(boxes_R4: npt.NDArray[np.float64], window: Window) -> npt.NDArray[np.float64]:
    """Return how much of each box is seen: what box and crop share, over the smaller of both.

    Over the smaller, so that a face that fills the crop counts as seen although most of the person is outside.

    Shapes: R boxes; returns [R], 0 (outside) to 1 (the box is inside the crop, or fills it).

    Example:
        >>> measure_visible(np.array([[0.0, 0.0, 0.5, 1.0]]), (0.25, 0.0, 1.0, 1.0)).tolist()
        [0.5]
    """
    left, top, right, bottom = window
    width_R = np.minimum(boxes_R4[:, 2], right) - np.maximum(boxes_R4[:, 0], left)
    height_R = np.minimum(boxes_R4[:, 3], bottom) - np.maximum(boxes_R4[:, 1], top)
    shared_R = np.clip(width_R, 0, None) * np.clip(height_R, 0, None)
    area_R = (boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])
    smaller_R: npt.NDArray[np.float64] = shared_R / np.minimum(area_R, (right - left) * (bottom - top))
    return smaller_R


def find_cut_columns(places: Places, window: Window, least_share: float = VISIBLE_SHARE) -> list[int]:
    """Return the labels of which no region is seen as far as `least_share`."""
    is_seen_R = measure_visible(places.boxes_R4, window) >= least_share
    seen = set(places.columns_R[is_seen_R].tolist())
    return sorted(set(places.columns_R.tolist()) - seen)


def drop_cut_labels(
    truth_L: Tensor, known_L: Tensor, places: Places, window: Window, can_drop_L: npt.NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Return the truth of a crop: absent where all regions of a label are outside, unknown where only a sliver is seen.

    Args:
        can_drop_L: the labels whose regions are complete; another one may be seen where no region says so, and stays.
    """
    truth_L, known_L = truth_L.clone(), known_L.clone()
    for column in find_cut_columns(places, window):
        if can_drop_L[column] and truth_L[column] > 0:
            truth_L[column] = 0
            is_sliver = measure_visible(places.boxes_R4[places.columns_R == column], window).max() > 0
            known_L[column] = not is_sliver
    return truth_L, known_L


@dataclass(frozen=True)
class RandomCrop:
    """torchvision's random resized crop, its shapes taken relative to the image where validation squashes the image.

    With torchvision's absolute shapes a tall poster would be seen stretched in validation only.
    """

    size: tuple[int, int]
    least_area: float
    interpolation: v2.InterpolationMode
    is_relative: bool

    def __call__(self, image: Image.Image) -> Image.Image:
        return self.cut(image, self.draw_window(image.size))

    def draw_window(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return left, top, width, height in pixels, at random."""
        width, height = image_size
        aspect = width / height if self.is_relative else 1.0
        # Only the size of the picture is read: nothing is allocated.
        shape = torch.empty(3, height, width, device="meta")
        top, left, window_height, window_width = v2.RandomResizedCrop.get_params(
            shape, [self.least_area, 1.0], [aspect * 3 / 4, aspect * 4 / 3]
        )
        return left, top, window_width, window_height

    def cut(self, image: Image.Image, window_px: tuple[int, int, int, int]) -> Image.Image:
        """Return the window of an image, at the size of the model."""
        left, top, width, height = window_px
        cut: Image.Image = v2.functional.resized_crop(
            image, top, left, height, width, list(self.size), self.interpolation, antialias=True
        )
        return cut


@dataclass(frozen=True)
class RegionAugmentation:
    """A crop that can look at regions, then the steps that cut nothing out; called with an image it looks at none.

    `regions` is "keep" (a crop cuts no label out) or "drop" (a label that is cut out is no longer claimed).
    """

    crop: RandomCrop
    rest: Callable[[Image.Image], Image.Image]
    regions: str

    def __call__(self, image: Image.Image) -> Image.Image:
        return self.show(image, NO_PLACES)[0]

    def show(self, image: Image.Image, places: Places) -> tuple[Image.Image, Window]:
        """Return the changed image, and which part of the image it shows.

        With "keep" it is the first of some crops in which every label is seen, else the whole image.
        """
        for _ in range(TRIES):
            window_px = self.crop.draw_window(image.size)
            window = _to_shares(window_px, image.size)
            if self.regions == "drop" or not find_cut_columns(places, window):
                return self.rest(self.crop.cut(image, window_px)), window
        return self.rest(self.crop.cut(image, (0, 0, *image.size))), WHOLE


def _to_shares(window_px: tuple[int, int, int, int], image_size: tuple[int, int]) -> Window:
    left, top, width, height = window_px
    return left / image_size[0], top / image_size[1], (left + width) / image_size[0], (top + height) / image_size[1]
