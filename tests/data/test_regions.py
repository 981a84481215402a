"""Masks and regions: run lengths column by column, bounds and areas, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.data.regions import Mask, Region


@pytest.mark.parametrize(
    ("pixels", "counts"),
    [
        pytest.param([[0, 1], [0, 1]], (2, 2), id="a right half"),
        pytest.param([[1, 1], [0, 1]], (0, 1, 1, 2), id="begins inside"),
        pytest.param([[0, 0], [0, 0]], (4,), id="nothing"),
        pytest.param([[1, 1], [1, 1]], (0, 4), id="everything"),
    ],
)
def test_a_mask_is_run_lengths_column_by_column_and_back(pixels: list[list[int]], counts: tuple[int, ...]) -> None:
    mask = Mask.from_pixels(np.array(pixels, bool))
    assert mask == Mask(2, 2, counts)
    assert mask.to_pixels().astype(int).tolist() == pixels


def test_any_mask_comes_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        pixels = rng.random(tuple(rng.integers(1, 9, 2))) < 0.5
        assert np.array_equal(Mask.from_pixels(pixels).to_pixels(), pixels)


def test_bounds_and_areas() -> None:
    mask = Mask.from_pixels(np.array([[0, 0, 0], [0, 1, 1]], bool))
    assert Region("dog", mask=mask).find_bounds() == (1, 1, 2, 1)
    assert Region("dog", mask=mask).area_px == 2
    triangle = Region("dog", polygons_px=((0, 0, 4, 0, 0, 3),))
    assert triangle.find_bounds() == (0, 0, 4, 3)
    assert triangle.area_px == 6
    assert Region("dog", (1, 2, 3, 4)).area_px == 12
    assert Region("dog").find_bounds() is None
    assert Region("dog").area_px == 0
