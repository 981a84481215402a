"""Crops that look at regions: areas worked out by hand, labels kept, dropped or unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from manylabel.augment.crops import (
    NO_PLACES,
    WHOLE,
    Places,
    RandomCrop,
    RegionAugmentation,
    Window,
    drop_cut_labels,
    find_cut_columns,
    measure_visible,
)
from manylabel.augment.presets import AugmentSettings, build_augmentation
from manylabel.data.preprocess import Preprocess

PREPROCESS = Preprocess(height_px=32, width_px=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RIGHT_HALF: Window = (0.5, 0.0, 1.0, 1.0)


def place(*boxes: tuple[int, float, float, float, float]) -> Places:
    """Return places from (column, left, top, right, bottom)."""
    return Places(np.array([box[0] for box in boxes]), np.array([box[1:] for box in boxes]))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((0.6, 0.2, 0.9, 0.4), 1.0, id="inside"),
        pytest.param((0.1, 0.2, 0.3, 0.4), 0.0, id="outside"),
        pytest.param((0.3, 0.2, 0.5, 0.4), 0.0, id="it touches the edge"),
        pytest.param((0.4, 0.2, 0.8, 0.4), 0.75, id="three quarters of its width"),
        pytest.param((0.0, 0.0, 1.0, 1.0), 1.0, id="it fills the crop"),
        pytest.param((0.0, 0.0, 1.0, 0.6), 0.6, id="larger than the crop, which it fills to 0.6"),
    ],
)
def test_what_is_seen_is_what_box_and_crop_share_over_the_smaller(box: Any, expected: float) -> None:
    assert measure_visible(np.array([box]), RIGHT_HALF).tolist() == pytest.approx([expected])


def test_a_label_is_cut_out_when_none_of_its_regions_is_seen_to_a_quarter() -> None:
    places = place(
        (0, 0.1, 0.1, 0.2, 0.2),  # outside, but label 0 has a second region that is inside
        (0, 0.7, 0.1, 0.8, 0.2),
        (1, 0.1, 0.5, 0.3, 0.7),  # outside
        (2, 0.1, 0.0, 0.6, 0.1),  # a fifth of it is seen
        (3, 0.125, 0.0, 0.625, 0.5),  # exactly a quarter
    )
    assert find_cut_columns(places, RIGHT_HALF) == [1, 2]
    assert find_cut_columns(NO_PLACES, RIGHT_HALF) == []


def test_a_dropped_label_is_absent_and_of_a_sliver_nobody_says_anything() -> None:
    places = place((0, 0.7, 0.1, 0.8, 0.2), (1, 0.1, 0.5, 0.3, 0.7), (2, 0.1, 0.0, 0.6, 0.1), (3, 0.1, 0.5, 0.3, 0.7))
    truth_L = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0])
    can_drop_L = np.array([True, True, True, False, True])
    truth, known = drop_cut_labels(truth_L, torch.ones(5).bool(), places, RIGHT_HALF, can_drop_L)
    # Seen; outside; a sliver; outside, but its regions are not complete; without any region.
    assert truth.tolist() == [1, 0, 0, 1, 1]
    assert known.tolist() == [True, True, False, True, True]
    assert truth_L.tolist() == [1, 1, 1, 1, 1]


def build(regions: str, least_area: float = 0.1) -> RegionAugmentation:
    augmentation = build_augmentation(AugmentSettings(crop=least_area, regions=regions), PREPROCESS)
    assert isinstance(augmentation, RegionAugmentation)
    return augmentation


def show(augmentation: RegionAugmentation, places: Places, seed: int) -> tuple[np.ndarray[Any, Any], Window]:
    torch.manual_seed(seed)
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[6:12, 8:16] = 255  # the object of the box (0.1, 0.1, 0.2, 0.2)
    image, window = augmentation.show(Image.fromarray(pixels), places)
    return np.asarray(image), window


def test_kept_labels_are_seen_in_every_crop_and_would_not_be_without_looking() -> None:
    places = place((0, 0.1, 0.1, 0.2, 0.2))
    kept, ignored = build("keep"), build("drop")
    windows = []
    for seed in range(100):
        pixels, window = show(kept, places, seed)
        assert find_cut_columns(places, window) == []
        assert pixels.max() > 128
        windows.append(window)
    assert 0 < windows.count(WHOLE) < 60  # most crops are crops
    blind = [show(ignored, places, seed) for seed in range(100)]
    assert sum(bool(find_cut_columns(places, window)) for _, window in blind) > 30
    assert sum(int(pixels.max()) < 16 for pixels, _ in blind) > 20


def test_where_no_crop_keeps_every_label_the_whole_image_is_shown() -> None:
    corners = place(
        (0, 0.0, 0.0, 0.05, 0.05), (1, 0.95, 0.0, 1.0, 0.05), (2, 0.0, 0.95, 0.05, 1.0), (3, 0.95, 0.95, 1.0, 1.0)
    )
    pixels, window = show(build("keep"), corners, 0)
    assert window == WHOLE
    assert pixels.shape == (32, 32, 3)


def test_an_image_without_regions_is_cropped_as_if_none_were_looked_at() -> None:
    plain = build_augmentation(AugmentSettings(crop=0.1, regions="ignore"), PREPROCESS)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    for seed in range(5):
        torch.manual_seed(seed)
        expected = np.asarray(plain(image))
        for regions in ("keep", "drop"):
            torch.manual_seed(seed)
            assert np.array_equal(np.asarray(build(regions)(image)), expected)


def test_the_window_says_which_part_is_shown() -> None:
    """Red says how far to the right a pixel was, green how far below: the middle of the crop tells its place."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.linspace(0, 255, 128)[None, :], np.linspace(0, 255, 64)[:, None]
    for seed in range(10):
        torch.manual_seed(seed)
        image, (left, top, right, bottom) = build("drop").show(Image.fromarray(pixels), NO_PLACES)
        red, green, _ = np.asarray(image).astype(float).mean(axis=(0, 1)) / 255
        assert (red, green) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (400, 5)], ids=str)
def test_a_crop_lies_inside_the_image(size: tuple[int, int]) -> None:
    augmentation = build("drop", 0.05)
    assert isinstance(augmentation.crop, RandomCrop)
    for seed in range(20):
        torch.manual_seed(seed)
        left, top, width, height = augmentation.crop.draw_window(size)
        assert left >= 0
        assert top >= 0
        assert width >= 1
        assert height >= 1
        assert left + width <= size[0]
        assert top + height <= size[1]
