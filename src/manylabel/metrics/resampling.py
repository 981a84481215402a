"""A resample written as copies: how many times each image stands in it.

Drawing images with replacement repeats some and drops others. Repeating rows would mean sorting all scores anew for
every resample; counting the copies instead lets every metric sort once and add up with multiplicities. The data as it
is are the resample in which each image stands once, so there is one definition of each metric and not two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from manylabel.cores import count_cores
from manylabel.metrics.averaging import fraction
from manylabel.metrics.inputs import CountArray

CELLS_AT_ONCE = 2**20
"""How many cells a block of work holds: a few megabytes, so that it stays near the processor."""

_CELLS_WORTH_THREADS = 2**22
_MOST_THREADS = 8

_Part = TypeVar("_Part")


def each_image_once(num_images: int) -> npt.NDArray[np.uint16]:
    """Return the one resample that is the data as they are.

    Shapes: 1 resample, N images.
    """
    return np.ones((1, num_images), np.uint16)


def split_into_blocks(length: int, cells_each: int) -> Iterator[slice]:
    """Yield slices that cover `length` items of `cells_each` cells, each slice about CELLS_AT_ONCE cells or one item.

    Example:
        >>> list(split_into_blocks(5, CELLS_AT_ONCE // 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, CELLS_AT_ONCE // max(1, cells_each))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def sum_over_images(values_NK: npt.NDArray[Any], copies_RN: CountArray) -> npt.NDArray[np.float64]:
    """Return the sum of every column, each image counted as often as it stands in the resample.

    Whole numbers come out exact up to 2**53.

    Shapes: R resamples, N images, K columns (labels, or whatever is counted) -> R, K.
    """
    num_images, num_columns = values_NK.shape
    sums_RK = np.zeros((len(copies_RN), num_columns))
    for images in split_into_blocks(num_images, max(num_columns, len(copies_RN))):
        # In float64 because numpy multiplies integer matrices without BLAS, some hundred times slower.
        sums_RK += copies_RN[:, images].astype(np.float64) @ values_NK[images].astype(np.float64)
    return sums_RK


def mean_over_images(values_N: npt.NDArray[np.float64], copies_RN: CountArray) -> npt.NDArray[np.float64]:
    """Return the mean of a value per image over the images where it is defined, in each resample.

    Shapes: R resamples, N images -> R. NaN where no image of the resample has a value.
    """
    defined_N = ~np.isnan(values_N)
    columns_N2 = np.stack([np.where(defined_N, values_N, 0), defined_N], axis=1)
    sums_R2 = sum_over_images(columns_N2, copies_RN)
    return fraction(sums_R2[:, 0], sums_R2[:, 1])


def map_in_threads(work: Callable[[_Part], None], parts: Sequence[_Part], num_cells: int) -> None:
    """Do every part of the work, on all cores where there is enough of it; numpy lets threads run side by side.

    Args:
        work: writes its part of a result, which no other part touches.
        num_cells: how many cells all parts look at together.
    """
    num_threads = min(count_cores(), _MOST_THREADS, len(parts))
    if num_cells < _CELLS_WORTH_THREADS or num_threads < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in threads.map(work, parts):
            pass
