"""Metrics of decisions: precision, recall and F1 per label, and the same and more per image.

A fraction 0/0 is NaN and not 0 or 1: a label that nobody decided has no precision, and calling it perfect or hopeless
would move the mean by an accident. These are the values that scikit-learn gives with `zero_division=numpy.nan`.

Source: Godbole and Sarawagi, "Discriminative methods for multi-labeled classification", 2004, for the means per image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from manylabel.metrics.averaging import fraction
from manylabel.metrics.counts import ConfusionCounts, confusion_counts_per_image
from manylabel.metrics.inputs import BoolArray, check_decisions
from manylabel.metrics.resampling import each_image_once, mean_over_images


def precision(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return the share of given labels that were right.

    Shapes: L labels -> L. NaN for a label that was never given.

    Example:
        >>> counts = ConfusionCounts(np.array([3, 0]), np.array([1, 0]), np.array([2, 2]), np.array([4, 8]))
        >>> precision(counts)
        array([0.75, nan])
    """
    return fraction(counts.true_positives_L, counts.true_positives_L + counts.false_positives_L)


def recall(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return the share of true labels that were found.

    Shapes: L labels -> L. NaN for a label without a positive.

    Example:
        >>> counts = ConfusionCounts(np.array([3, 0]), np.array([1, 2]), np.array([2, 0]), np.array([4, 8]))
        >>> recall(counts)
        array([0.6, nan])
    """
    return fraction(counts.true_positives_L, counts.num_positive_L)


def f1(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return the harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn).

    A label without a positive that was given somewhere scores 0; one that was never given either has no F1.

    Shapes: L labels -> L. NaN for a label that was neither given nor true anywhere.

    Example:
        >>> counts = ConfusionCounts(np.array([3, 0]), np.array([1, 0]), np.array([1, 0]), np.array([5, 10]))
        >>> f1(counts)
        array([0.75, nan])
    """
    twice = 2 * counts.true_positives_L
    return fraction(twice, twice + counts.false_positives_L + counts.false_negatives_L)


def jaccard(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return the size of the intersection of given and true over the size of their union.

    Shapes: L labels -> L. NaN where both are empty.

    Example:
        >>> jaccard(ConfusionCounts(np.array([3]), np.array([1]), np.array([1]), np.array([5])))
        array([0.6])
    """
    return fraction(
        counts.true_positives_L, counts.true_positives_L + counts.false_positives_L + counts.false_negatives_L
    )


def all_right(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return 1 where every known cell was decided rightly and 0 elsewhere.

    Shapes: L labels -> L. NaN where nothing is known.

    Example:
        >>> all_right(ConfusionCounts(np.array([1, 1]), np.array([0, 1]), np.array([0, 0]), np.array([2, 1])))
        array([1., 0.])
    """
    is_right_L = counts.false_positives_L + counts.false_negatives_L == 0
    return np.where(counts.num_known_L > 0, is_right_L.astype(np.float64), np.nan)


def share_wrong(counts: ConfusionCounts) -> npt.NDArray[np.float64]:
    """Return the share of known cells that were decided wrongly.

    Shapes: L labels -> L. NaN where nothing is known.

    Example:
        >>> share_wrong(ConfusionCounts(np.array([3]), np.array([1]), np.array([1]), np.array([5])))
        array([0.2])
    """
    return fraction(counts.false_positives_L + counts.false_negatives_L, counts.num_known_L)


def precision_samples(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the mean over images of the share of its given labels that were right.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that were given a label; NaN when none was.

    Raises:
        DataError: shapes that differ, or values other than True and False.
    """
    return _mean_per_image(precision, decisions_NL, truth_NL, known_NL)


def recall_samples(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the mean over images of the share of its true labels that were found.

    Shapes: N images, L labels.

    Returns:
        the mean over the images that have a true label; NaN when none has.

    Raises:
        DataError: shapes that differ, or values other than True and False.
    """
    return _mean_per_image(recall, decisions_NL, truth_NL, known_NL)


def f1_samples(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the mean over images of the F1 between its given and its true labels.

    An image without a true label counts with 0 as soon as it was given one.

    Shapes: N images, L labels.

    Returns:
        the mean over the images where given and true labels are not both empty; NaN when there is none.

    Raises:
        DataError: shapes that differ, or values other than True and False.

    Example:
        >>> truth_NL = np.array([[True, False], [False, False]])
        >>> f1_samples(truth_NL, truth_NL)
        1.0
    """
    return _mean_per_image(f1, decisions_NL, truth_NL, known_NL)


def jaccard_samples(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the mean over images of intersection over union of its given and its true labels.

    Shapes: N images, L labels.

    Returns:
        the mean over the images where given and true labels are not both empty; NaN when there is none.

    Raises:
        DataError: shapes that differ, or values other than True and False.
    """
    return _mean_per_image(jaccard, decisions_NL, truth_NL, known_NL)


def subset_accuracy(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the share of images whose known labels were all decided rightly.

    Shapes: N images, L labels.

    Returns:
        the share of the images that have a known label; NaN when none has.

    Raises:
        DataError: shapes that differ, or values other than True and False.
    """
    return _mean_per_image(all_right, decisions_NL, truth_NL, known_NL)


def hamming_loss(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> float:
    """Return the share of known cells that were decided wrongly, over all images and labels together.

    Shapes: N images, L labels.

    Returns:
        the share; NaN when no cell is known.

    Raises:
        DataError: shapes that differ, or values other than True and False.
    """
    per_image = confusion_counts_per_image(*check_decisions(decisions_NL, truth_NL, known_NL))
    return float(share_wrong(per_image.pooled())[0])


def _mean_per_image(
    metric: Callable[[ConfusionCounts], npt.NDArray[np.float64]],
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray | None,
) -> float:
    per_image = confusion_counts_per_image(*check_decisions(decisions_NL, truth_NL, known_NL))
    values_N = metric(per_image)
    return float(mean_over_images(values_N, each_image_once(len(values_N)))[0])
