"""Images in one list from low to high score, and where each positive stands among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.metrics.inputs import BoolArray, FloatArray

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ImageOrder:
    """The images in one list from low to high score, and where each positive stands among them.

    `low` and `high` are the places where the run of scores equal to the positive's begins and ends, once among all
    scores and once among the scores of the positives alone.

    Shapes: K known cells, P positives, from low to high too.
    """

    image_K: IntArray
    positive_image_P: IntArray
    low_of_all_P: IntArray
    high_of_all_P: IntArray
    low_of_positives_P: IntArray
    high_of_positives_P: IntArray


def rank_images(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> ImageOrder:
    """Return the known cells of all given columns as one list: one column for one label, all of them for micro."""
    cell_K, scores_K = _sort_known_cells(probs_NL.ravel(), known_NL)
    image_K = cell_K if probs_NL.shape[1] == 1 else cell_K // max(1, probs_NL.shape[1])
    place_P = np.flatnonzero(truth_NL.ravel()[cell_K])
    scores_P = scores_K[place_P]
    return ImageOrder(
        image_K,
        image_K[place_P],
        np.searchsorted(scores_K, scores_P, side="left"),
        np.searchsorted(scores_K, scores_P, side="right"),
        np.searchsorted(scores_P, scores_P, side="left"),
        np.searchsorted(scores_P, scores_P, side="right"),
    )


def _sort_known_cells(scores: FloatArray, known_NL: BoolArray) -> tuple[IntArray, FloatArray]:
    """Return the places of the known cells and their scores, from low to high."""
    if known_NL.all():
        return _sort(scores)
    cell_K = np.flatnonzero(known_NL)
    order_K, scores_K = _sort(scores[cell_K])
    return cell_K[order_K], scores_K


def _sort(scores_K: FloatArray) -> tuple[IntArray, FloatArray]:
    if scores_K.dtype != np.float32 or len(scores_K) >= 2**32:
        order_K = np.argsort(scores_K)
        return order_K, scores_K[order_K]
    # The bits of a number that is not negative are in its order: with the place behind them they are sorted as one
    # whole number, several times faster than through a list of places. Adding 0 makes 0 of -0.
    keys_K = (scores_K + np.float32(0)).view(np.uint32).astype(np.uint64)
    keys_K <<= np.uint64(32)
    keys_K |= np.arange(len(keys_K), dtype=np.uint64)
    keys_K.sort()
    order_K = (keys_K & np.uint64(2**32 - 1)).view(np.intp)
    return order_K, (keys_K >> np.uint64(32)).astype(np.uint32).view(np.float32)
