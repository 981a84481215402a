"""Metrics of order: how far true labels stand above the others, whatever the thresholds.

Two directions: over the images of one label (average precision, area under the ROC curve), and over the labels of one
image (coverage error, ranking loss, label ranking average precision, one-error). Each sorts once and then looks only at
the positives; equal scores are treated as one step. Ties, and images or labels with nothing to rank, are handled as in
scikit-learn, except that a label without a positive (or negative) has no value instead of 0 and a warning.

Source: Tsoumakas, Katakis and Vlahavas, "Mining multi-label data", 2010, for the metrics per image; average precision
is the step-wise sum over recall, without interpolation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.metrics.averaging import fraction
from manylabel.metrics.image_order import ImageOrder, rank_images
from manylabel.metrics.inputs import BoolArray, CountArray, FloatArray, check_probs
from manylabel.metrics.label_order import rank_labels_per_image
from manylabel.metrics.packed_copies import PackedCopies, pack_copies
from manylabel.metrics.resampling import each_image_once, map_in_threads, mean_over_images


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


def one_error(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the share of images whose most probable label is wrong.

    Where several labels share the first place, the share of wrong ones among them counts.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that have a true label, since of the others every answer is wrong; NaN when none has.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> one_error(np.array([[0.9, 0.5], [0.2, 0.6]]), np.array([[True, False], [True, False]]))
        0.5
    """
    return _mean(rank_labels_per_image(*check_probs(probs_NL, truth_NL, known_NL)).one_error_N)


_LABELS_AT_ONCE = 8
"""Columns that are read together: a column alone is scattered over the whole table."""


def resampled_label_rankings(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return average precision and area under the ROC curve of every label and resample, from checked inputs.

    Both come from one sort per label; labels are shared out among the processor's cores.

    Shapes: R resamples, N images, L labels -> two arrays of shape R, L.
    """
    num_labels = probs_NL.shape[1]
    packed = pack_copies(copies_RN)
    values_2RL = np.empty((2, len(copies_RN), num_labels))

    def judge(first: int) -> None:
        labels = slice(first, first + _LABELS_AT_ONCE)
        columns = (np.ascontiguousarray(cells_NL[:, labels].T) for cells_NL in (probs_NL, truth_NL, known_NL))
        for label, (probs_N, truth_N, known_N) in enumerate(zip(*columns, strict=True), start=first):
            order = rank_images(probs_N[:, np.newaxis], truth_N[:, np.newaxis], known_N[:, np.newaxis])
            _judge_order(order, packed, values_2RL[:, :, label])

    map_in_threads(judge, range(0, num_labels, _LABELS_AT_ONCE), num_cells=values_2RL.size * len(probs_NL))
    return values_2RL[0], values_2RL[1]


def resampled_average_precision_micro(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> npt.NDArray[np.float64]:
    """Return the average precision of all known cells in one list for every resample, from checked inputs.

    Shapes: R resamples, N images, L labels -> R.
    """
    packed = pack_copies(copies_RN, num_cells_each=probs_NL.shape[1])
    values_2R: npt.NDArray[np.float64] = np.empty((2, len(copies_RN)))
    _judge_order(rank_images(probs_NL, truth_NL, known_NL), packed, values_2R)
    return np.asarray(values_2R[0])


def _judge_order(order: ImageOrder, packed: PackedCopies, values_2R: npt.NDArray[np.float64]) -> None:
    """Write average precision and area under the ROC curve of one list for every resample."""
    num_cells, num_positive = len(order.image_K), len(order.positive_image_P)
    if num_positive == 0:
        values_2R[:] = np.nan
        return
    everything = packed.sums_before(order.image_K, [order.low_of_all_P, order.high_of_all_P, np.array([num_cells])])
    for resamples, (below_RP, up_to_RP, num_all_R1) in everything:
        copies_RP = packed.copies_of(order.positive_image_P, resamples)
        positives_RP = np.zeros((len(copies_RP), num_positive + 1), np.int64)
        np.cumsum(copies_RP, axis=1, out=positives_RP[:, 1:])
        num_positive_R1 = positives_RP[:, -1:]
        positives_below_RP = np.take(positives_RP, order.low_of_positives_P, axis=1)

        at_least_RP = num_all_R1 - below_RP
        # A positive that is not in the resample may have nothing level with or above it; it counts with 0 copies.
        np.maximum(at_least_RP, 1, out=at_least_RP)
        precision_RP = (num_positive_R1 - positives_below_RP) / at_least_RP
        precision_R = np.einsum("rp,rp->r", copies_RP, precision_RP)
        values_2R[0, resamples] = fraction(precision_R, num_positive_R1[:, 0])

        # Negatives below, and below or level: each positive beats the first, and half of those that are level.
        twice_beaten_RP = below_RP + up_to_RP - positives_below_RP
        twice_beaten_RP -= np.take(positives_RP, order.high_of_positives_P, axis=1)
        twice_beaten_R = np.einsum("rp,rp->r", copies_RP, twice_beaten_RP)
        num_pairs_R1 = num_positive_R1 * (num_all_R1 - num_positive_R1)
        values_2R[1, resamples] = fraction(twice_beaten_R / 2, num_pairs_R1[:, 0])


def _mean(values_N: npt.NDArray[np.float64]) -> float:
    return float(mean_over_images(values_N, each_image_once(len(values_N)))[0])
