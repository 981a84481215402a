"""The labels of each image from low to high score, and what their order is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.metrics.averaging import fraction
from manylabel.metrics.inputs import BoolArray, FloatArray
from manylabel.metrics.resampling import map_in_threads, split_into_blocks

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LabelRankings:
    """Four views of the order of the labels of each image, NaN where an image has no value.

    Shapes: N images.
    """

    coverage_N: npt.NDArray[np.float64]
    loss_N: npt.NDArray[np.float64]
    average_precision_N: npt.NDArray[np.float64]
    one_error_N: npt.NDArray[np.float64]


def rank_labels_per_image(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> LabelRankings:
    """Return coverage, ranking loss, average precision and one-error of every image, from checked inputs.

    Shapes: N images, L labels -> four arrays of shape N.
    """
    num_images, num_labels = probs_NL.shape
    values_4N = np.empty((4, num_images))

    def judge(images: slice) -> None:
        values_4N[:, images] = _rank_labels(probs_NL[images], truth_NL[images], known_NL[images])

    map_in_threads(judge, list(split_into_blocks(num_images, num_labels)), num_cells=probs_NL.size)
    return LabelRankings(*values_4N)


def _rank_labels(probs_BL: FloatArray, truth_BL: BoolArray, known_BL: BoolArray) -> npt.NDArray[np.float64]:
    num_images = len(probs_BL)
    num_known_B = np.count_nonzero(known_BL, axis=1)
    num_true_B = np.count_nonzero(truth_BL, axis=1)
    keys_BL = _sort_labels(probs_BL, truth_BL, known_BL)
    is_true_BL = (keys_BL & 1).astype(np.bool_)
    keys_BL >>= 1
    image_T, at_least_T, true_at_least_T = _stand_of_true_labels(keys_BL, is_true_BL, num_true_B)

    has_true_B = num_true_B > 0
    # The lowest true label of an image stands first in its part of the list.
    first_B = np.cumsum(num_true_B) - num_true_B
    coverage_B = np.zeros(num_images)
    coverage_B[has_true_B] = at_least_T[first_B[has_true_B]]

    wrong_pairs_B = np.bincount(image_T, at_least_T - true_at_least_T, minlength=num_images)
    loss_B = fraction(wrong_pairs_B, num_true_B * (num_known_B - num_true_B))
    precision_B = fraction(np.bincount(image_T, true_at_least_T / at_least_T, minlength=num_images), num_true_B)

    has_no_order_B = ~has_true_B | (num_true_B == num_known_B)
    loss_B[has_no_order_B] = 0
    precision_B[has_no_order_B] = 1
    values_4B = np.stack([coverage_B, loss_B, precision_B, _one_error(keys_BL, is_true_BL, has_true_B)])
    values_4B[:, num_known_B == 0] = np.nan
    return values_4B


def _sort_labels(probs_BL: FloatArray, truth_BL: BoolArray, known_BL: BoolArray) -> npt.NDArray[Any]:
    """Return the scores of each image from low to high, as whole numbers in their order, the truth in the last bit.

    The bits of a probability, read as a whole number, are in its order, and two more fit beside them. Unknown cells are
    0, below every probability, so that they are never counted among those that score at least as high.
    """
    kind = np.uint32 if probs_BL.dtype == np.float32 else np.uint64
    # Adding 0 makes 0 of -0; what stands in unknown cells may be anything.
    keys_BL: npt.NDArray[Any] = (np.where(known_BL, probs_BL, 0) + probs_BL.dtype.type(0)).view(kind)
    np.add(keys_BL, kind(1), out=keys_BL)
    np.left_shift(keys_BL, kind(1), out=keys_BL)
    np.bitwise_or(keys_BL, truth_BL, out=keys_BL)
    np.multiply(keys_BL, known_BL, out=keys_BL)
    keys_BL.sort(axis=1)
    return keys_BL


def _stand_of_true_labels(
    scores_BL: npt.NDArray[Any], is_true_BL: BoolArray, num_true_B: npt.NDArray[Any]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return for every true cell its image, and how many labels, and true labels, of that image score at least as high.

    The true cells come image by image and from the lowest score to the highest.
    """
    num_images, num_labels = scores_BL.shape
    begins_run_BL = np.ones((num_images, num_labels), np.bool_)
    np.not_equal(scores_BL[:, 1:], scores_BL[:, :-1], out=begins_run_BL[:, 1:])
    run_begin = np.flatnonzero(begins_run_BL)

    # Positions count through the whole block, image after image, so that one search serves all images.
    position_T = np.flatnonzero(is_true_BL)
    image_T = position_T // max(1, num_labels)
    low_T = run_begin[np.searchsorted(run_begin, position_T, side="right") - 1]
    at_least_T = (image_T + 1) * num_labels - low_T
    true_at_least_T = np.cumsum(num_true_B)[image_T] - np.searchsorted(position_T, low_T)
    return image_T, at_least_T, true_at_least_T


def _one_error(scores_BL: npt.NDArray[Any], is_true_BL: BoolArray, has_true_B: BoolArray) -> npt.NDArray[np.float64]:
    """Return the share of wrong labels among those that share the first place; NaN for an image without a true one."""
    if scores_BL.shape[1] == 0:
        return np.full(len(scores_BL), np.nan)
    is_first_BL = scores_BL == scores_BL[:, -1:]
    num_right_B = np.count_nonzero(is_first_BL & is_true_BL, axis=1)
    return np.where(has_true_B, 1 - num_right_B / np.count_nonzero(is_first_BL, axis=1), np.nan)
