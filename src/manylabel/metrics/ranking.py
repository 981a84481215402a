"""Metrics of order: how far true labels stand above the others, whatever the thresholds.

Two directions: over the images of one label (average precision, area under the ROC curve), and over the labels of one
image (coverage error, ranking loss, label ranking average precision). Each sorts once and then looks only at the
positives; equal scores are treated as one step. Ties, and images or labels with nothing to rank, are handled as in
scikit-learn, except that a label without a positive (or negative) has no value instead of 0 and a warning.

Source: Tsoumakas, Katakis and Vlahavas, "Mining multi-label data", 2010, for the metrics per image; average precision
is the step-wise sum over recall, without interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.metrics.averaging import fraction
from manylabel.metrics.inputs import BoolArray, CountArray, FloatArray, check_probs
from manylabel.metrics.resampling import each_image_once, mean_over_images, split_into_blocks

IntArray = npt.NDArray[np.intp]


def average_precision(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None
) -> npt.NDArray[np.float64]:
    """Return for each label the mean over its positives of the precision among the images that score no lower.

    Shapes: N images, L labels -> L.

    Args:
        probs_NL: probabilities; only their order matters.
        truth_NL: True where the image shows the label.
        known_NL: False where nobody knows; such cells never count. None when all are known.

    Returns:
        a number in (0, 1] per label; NaN for a label without a positive.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> probs_NL = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> truth_NL = np.array([[True, False], [False, False], [True, False]])
        >>> average_precision(probs_NL, truth_NL).round(4)
        array([0.8333,    nan])
    """
    checked = check_probs(probs_NL, truth_NL, known_NL)
    average_precision_1L, _ = resampled_label_rankings(*checked, each_image_once(len(checked[0])))
    return average_precision_1L.ravel()


def roc_auc(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> npt.NDArray[np.float64]:
    """Return for each label how often a positive image scores above a negative one, a tie counting one half.

    This is the area under the curve of true against false positive rate.

    Shapes: N images, L labels -> L.

    Args:
        probs_NL: probabilities; only their order matters.
        truth_NL: True where the image shows the label.
        known_NL: False where nobody knows; such cells never count. None when all are known.

    Returns:
        a number in [0, 1] per label; NaN for a label without a positive or without a negative.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> roc_auc(np.array([[0.9], [0.8], [0.7]]), np.array([[True], [False], [True]]))
        array([0.5])
    """
    checked = check_probs(probs_NL, truth_NL, known_NL)
    _, roc_auc_1L = resampled_label_rankings(*checked, each_image_once(len(checked[0])))
    return roc_auc_1L.ravel()


def average_precision_micro(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the average precision of all known cells in one list, as if there were one label.

    Shapes: N images, L labels.

    Returns:
        a number in (0, 1]; NaN without a positive.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.
    """
    checked = check_probs(probs_NL, truth_NL, known_NL)
    return float(resampled_average_precision_micro(*checked, each_image_once(len(checked[0])))[0])


def coverage_error(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return how many labels one must go down the list of an image, on average, to meet all its true labels.

    The best value is the mean number of true labels, not 0; an image without a true label counts with 0.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that have a known label; NaN when none has.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> coverage_error(np.array([[0.9, 0.5, 0.2]]), np.array([[True, False, True]]))
        3.0
    """
    return _mean(rank_labels_per_image(*check_probs(probs_NL, truth_NL, known_NL)).coverage_N)


def ranking_loss(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the mean over images of the share of (true, false) label pairs in the wrong order.

    A tie is wrong. An image whose labels are all true, or all false, has nothing to order and counts with 0.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that have a known label; NaN when none has.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> ranking_loss(np.array([[0.9, 0.5, 0.2]]), np.array([[True, False, True]]))
        0.5
    """
    return _mean(rank_labels_per_image(*check_probs(probs_NL, truth_NL, known_NL)).loss_N)


def label_ranking_average_precision(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None
) -> float:
    """Return the mean over images, and over the true labels of each, of the share of true ones at or above it.

    An image whose labels are all true, or all false, has nothing to order and counts with 1.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that have a known label; NaN when none has.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> round(label_ranking_average_precision(np.array([[0.9, 0.5, 0.2]]), np.array([[True, False, True]])), 4)
        0.8333
    """
    return _mean(rank_labels_per_image(*check_probs(probs_NL, truth_NL, known_NL)).average_precision_N)


def resampled_label_rankings(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return average precision and area under the ROC curve of every label and resample, from checked inputs.

    Both come from one sort per label.

    Shapes: R resamples, N images, L labels -> two arrays of shape R, L.
    """
    num_labels = probs_NL.shape[1]
    average_precision_RL = np.empty((len(copies_RN), num_labels))
    roc_auc_RL = np.empty_like(average_precision_RL)
    for label in range(num_labels):
        ranking = _rank_images(probs_NL[:, [label]], truth_NL[:, [label]], known_NL[:, [label]])
        for resamples in split_into_blocks(len(copies_RN), len(ranking.image_K)):
            sums = _add_up(ranking, copies_RN[resamples])
            average_precision_RL[resamples, label] = _average_precision(sums)
            roc_auc_RL[resamples, label] = _roc_auc(sums)
    return average_precision_RL, roc_auc_RL


def resampled_average_precision_micro(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> npt.NDArray[np.float64]:
    """Return the average precision of all known cells in one list for every resample, from checked inputs.

    Shapes: R resamples, N images, L labels -> R.
    """
    ranking = _rank_images(probs_NL, truth_NL, known_NL)
    values_R = np.empty(len(copies_RN))
    for resamples in split_into_blocks(len(copies_RN), len(ranking.image_K)):
        values_R[resamples] = _average_precision(_add_up(ranking, copies_RN[resamples]))
    return values_R


@dataclass(frozen=True)
class _ImageOrder:
    """The images in one list from low to high score, and where each positive stands among them.

    `low` and `high` are the positions where the run of scores equal to the positive's begins and ends, once among all
    scores and once among the scores of the positives alone.

    Shapes: K known cells, P positives.
    """

    image_K: IntArray
    positive_image_P: IntArray
    low_of_all_P: IntArray
    high_of_all_P: IntArray
    low_of_positives_P: IntArray
    high_of_positives_P: IntArray


@dataclass(frozen=True)
class _Sums:
    """What stands below, level with and above each positive, counted in copies.

    Shapes: R resamples, P positives.
    """

    positive_copies_RP: npt.NDArray[np.int64]
    num_positive_R: npt.NDArray[np.int64]
    num_all_R: npt.NDArray[np.int64]
    positives_below_RP: npt.NDArray[np.int64]
    positives_up_to_RP: npt.NDArray[np.int64]
    all_below_RP: npt.NDArray[np.int64]
    all_up_to_RP: npt.NDArray[np.int64]


def _rank_images(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> _ImageOrder:
    """Return the known cells of all given columns as one list: one column for one label, all of them for micro."""
    scores = probs_NL.ravel()
    if known_NL.all():
        # As below with every cell known, without copying the scores twice.
        cell_K = np.argsort(scores)
    else:
        cell_K = np.flatnonzero(known_NL)
        cell_K = cell_K[np.argsort(scores[cell_K])]
    scores_K = scores[cell_K]
    image_K = cell_K // max(1, probs_NL.shape[1])
    is_positive_K = truth_NL.ravel()[cell_K]
    scores_P = scores_K[is_positive_K]
    return _ImageOrder(
        image_K,
        image_K[is_positive_K],
        np.searchsorted(scores_K, scores_P, side="left"),
        np.searchsorted(scores_K, scores_P, side="right"),
        np.searchsorted(scores_P, scores_P, side="left"),
        np.searchsorted(scores_P, scores_P, side="right"),
    )


def _add_up(ranking: _ImageOrder, copies_RN: CountArray) -> _Sums:
    positive_copies_RP = np.take(copies_RN, ranking.positive_image_P, axis=1)
    positives = _cumulate(positive_copies_RP)
    everything = _cumulate(np.take(copies_RN, ranking.image_K, axis=1))
    return _Sums(
        positive_copies_RP.astype(np.int64),
        positives[:, -1],
        everything[:, -1],
        positives[:, ranking.low_of_positives_P],
        positives[:, ranking.high_of_positives_P],
        everything[:, ranking.low_of_all_P],
        everything[:, ranking.high_of_all_P],
    )


def _cumulate(copies_RK: CountArray) -> npt.NDArray[np.int64]:
    """Return running sums that begin with 0, so that position k holds the sum of the k first."""
    sums = np.zeros((copies_RK.shape[0], copies_RK.shape[1] + 1), np.int64)
    # In whole numbers: exact, and four times faster than float64.
    np.cumsum(copies_RK, axis=1, dtype=np.int64, out=sums[:, 1:])
    return sums


def _average_precision(sums: _Sums) -> npt.NDArray[np.float64]:
    positives_at_least_RP = sums.num_positive_R[:, np.newaxis] - sums.positives_below_RP
    all_at_least_RP = sums.num_all_R[:, np.newaxis] - sums.all_below_RP
    # A positive that is not in the resample may have nothing level with or above it; it is multiplied by 0 copies.
    precision_RP = positives_at_least_RP / np.maximum(all_at_least_RP, 1)
    return fraction((sums.positive_copies_RP * precision_RP).sum(axis=1), sums.num_positive_R)


def _roc_auc(sums: _Sums) -> npt.NDArray[np.float64]:
    negatives_below_RP = sums.all_below_RP - sums.positives_below_RP
    negatives_up_to_RP = sums.all_up_to_RP - sums.positives_up_to_RP
    twice_beaten_R = (sums.positive_copies_RP * (negatives_below_RP + negatives_up_to_RP)).sum(axis=1)
    return fraction(twice_beaten_R / 2, sums.num_positive_R * (sums.num_all_R - sums.num_positive_R))


@dataclass(frozen=True)
class LabelRankings:
    """Three views of the order of the labels of each image, NaN for an image without a known label.

    Shapes: N images.
    """

    coverage_N: npt.NDArray[np.float64]
    loss_N: npt.NDArray[np.float64]
    average_precision_N: npt.NDArray[np.float64]


def rank_labels_per_image(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> LabelRankings:
    """Return coverage, ranking loss and label ranking average precision of every image, from checked inputs.

    Shapes: N images, L labels -> three arrays of shape N.
    """
    num_images, num_labels = probs_NL.shape
    values_3N = np.empty((3, num_images))
    for images in split_into_blocks(num_images, num_labels):
        values_3N[:, images] = _rank_labels(probs_NL[images], truth_NL[images], known_NL[images])
    return LabelRankings(*values_3N)


def _rank_labels(probs_BL: FloatArray, truth_BL: BoolArray, known_BL: BoolArray) -> npt.NDArray[np.float64]:
    num_images = len(probs_BL)
    num_known_B = np.count_nonzero(known_BL, axis=1)
    num_true_B = np.count_nonzero(truth_BL, axis=1)
    image_T, at_least_T, true_at_least_T = _stand_of_true_labels(probs_BL, truth_BL, known_BL, num_true_B)

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
    values_3B = np.stack([coverage_B, loss_B, precision_B])
    values_3B[:, num_known_B == 0] = np.nan
    return values_3B


def _stand_of_true_labels(
    probs_BL: FloatArray, truth_BL: BoolArray, known_BL: BoolArray, num_true_B: npt.NDArray[Any]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return for every true cell its image, and how many labels, and true labels, of that image score at least as high.

    The true cells come image by image and from the lowest score to the highest.
    """
    num_images, num_labels = probs_BL.shape
    # Below every probability: an unknown label is never counted among those that score at least as high.
    scores_BL = np.where(known_BL, probs_BL, probs_BL.dtype.type(-1))
    order_BL = np.argsort(scores_BL, axis=1)
    scores_BL = np.take_along_axis(scores_BL, order_BL, axis=1)
    begins_run_BL = np.ones((num_images, num_labels), np.bool_)
    np.not_equal(scores_BL[:, 1:], scores_BL[:, :-1], out=begins_run_BL[:, 1:])
    run_begin = np.flatnonzero(begins_run_BL)

    # Positions count through the whole block, image after image, so that one search serves all images.
    position_T = np.flatnonzero(np.take_along_axis(truth_BL, order_BL, axis=1))
    image_T = position_T // max(1, num_labels)
    low_T = run_begin[np.searchsorted(run_begin, position_T, side="right") - 1]
    at_least_T = (image_T + 1) * num_labels - low_T
    true_at_least_T = np.cumsum(num_true_B)[image_T] - np.searchsorted(position_T, low_T)
    return image_T, at_least_T, true_at_least_T


def _mean(values_N: npt.NDArray[np.float64]) -> float:
    return float(mean_over_images(values_N, each_image_once(len(values_N)))[0])
