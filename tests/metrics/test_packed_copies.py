"""Running sums of packed resamples are those of each resample alone."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.metrics.intervals import draw_copies
from manylabel.metrics.packed_copies import pack_copies


@pytest.mark.parametrize("num_resamples", [1, 3, 7, 50])
@pytest.mark.parametrize(("num_images", "num_cells"), [(1, 1), (40, 40), (40, 95), (300, 0), (2_000, 270_000)], ids=str)
def test_sums_before_places_are_those_of_plain_addition(num_resamples: int, num_images: int, num_cells: int) -> None:
    generator = np.random.default_rng(0)
    copies_RN = draw_copies(num_images, num_resamples)
    image_K = np.sort(generator.integers(num_images, size=num_cells))[::-1]
    places = [np.sort(generator.integers(num_cells + 1, size=12)), np.array([0, num_cells])]
    packed = pack_copies(copies_RN, num_cells_each=-(-num_cells // num_images) * 3 + 1)
    before = np.zeros((num_resamples, num_cells + 1), np.int64)
    np.cumsum(copies_RN[:, image_K], axis=1, out=before[:, 1:])
    seen = []
    for resamples, sums in packed.sums_before(image_K, places):
        seen.extend(range(num_resamples)[resamples])
        for found_RP, place_P in zip(sums, places, strict=True):
            np.testing.assert_array_equal(found_RP, before[resamples][:, place_P])
        rows = np.arange(num_images)
        np.testing.assert_array_equal(packed.copies_of(rows, resamples), copies_RN[resamples])
    assert seen == list(range(num_resamples))
