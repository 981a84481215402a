from __future__ import annotations

import numpy as np
import pytest

from manylabel.metrics.resampling import (
    CELLS_AT_ONCE,
    each_image_once,
    mean_over_images,
    split_into_blocks,
    sum_over_images,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("length", "cells_each"),
    [
        pytest.param(10, 3, id="all in one block"),
        pytest.param(10, CELLS_AT_ONCE // 4, id="a last block that is not full"),
        pytest.param(3, 5 * CELLS_AT_ONCE, id="one item is more than a block"),
        pytest.param(4, 0, id="items without a cell"),
        pytest.param(0, 3, id="nothing"),
    ],
)
def test_blocks_cover_every_item_once_in_order(length: int, cells_each: int) -> None:
    blocks = list(split_into_blocks(length, cells_each))
    assert [item for block in blocks for item in range(length)[block]] == list(range(length))
    assert all((block.stop - block.start) * cells_each <= max(CELLS_AT_ONCE, cells_each) for block in blocks)


def test_a_sum_counts_an_image_as_often_as_it_stands_in_the_resample() -> None:
    values_NK = np.array([[1, 10], [2, 20], [3, 30]])
    copies_RN = np.array([[1, 1, 1], [0, 3, 0], [2, 0, 1]])
    np.testing.assert_array_equal(sum_over_images(values_NK, copies_RN), [[6, 60], [6, 60], [5, 50]])


def test_sums_over_several_blocks_of_images_are_exact() -> None:
    num_images = CELLS_AT_ONCE + 7
    sums_RK = sum_over_images(np.ones((num_images, 1), np.bool_), each_image_once(num_images))
    assert sums_RK.tolist() == [[num_images]]


def test_a_mean_leaves_out_images_without_a_value() -> None:
    values_N = np.array([1.0, NAN, 0.5])
    copies_RN = np.array([[1, 1, 1], [3, 5, 1], [0, 3, 0]])
    np.testing.assert_array_equal(mean_over_images(values_N, copies_RN), [0.75, 0.875, NAN])
