"""What knowing nothing about the image would score: the numbers that a model has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message
from manylabel.metrics.inputs import BoolArray, FloatArray


@dataclass(frozen=True)
class Baseline:
    """Probabilities and decisions to score in place of a model's.

    Shapes: N images, L labels.
    """

    probs_NL: npt.NDArray[np.float64]
    decisions_NL: BoolArray


def all_negative_baseline(truth_NL: BoolArray) -> Baseline:
    """Return the answer "no label" for every image, with probability 0.

    Where labels are rare its hamming loss is low: that is why a model's is worth nothing alone.

    Shapes: N images, L labels.

    Args:
        truth_NL: the truth of the evaluated images, for the shape alone.

    Example:
        >>> all_negative_baseline(np.array([[True, False]])).decisions_NL
        array([[False, False]])
    """
    shape = np.asarray(truth_NL).shape
    return Baseline(np.zeros(shape), np.zeros(shape, np.bool_))


def prior_baseline(truth_NL: BoolArray, prevalence_L: FloatArray, thresholds_L: FloatArray) -> Baseline:
    """Return for every image the prevalence of the labels in the training part, decided with `>=` the thresholds.

    Shapes: N images, L labels.

    Args:
        truth_NL: the truth of the evaluated images, for the shape alone.
        prevalence_L: share of the training images that show the label; from the training part, not from this one.
        thresholds_L: the probability from which on a label is given; above 1 means never.

    Raises:
        DataError: not one prevalence or threshold per label, a prevalence outside [0, 1], a threshold that is NaN.

    Example:
        >>> prior_baseline(np.array([[True, False]]), np.array([0.5, 0.1]), np.array([0.5, 0.5])).decisions_NL
        array([[ True, False]])
    """
    num_images, num_labels = np.asarray(truth_NL).shape
    prevalence_L = np.asarray(prevalence_L, np.float64)
    thresholds_L = np.asarray(thresholds_L, np.float64)
    for name, values_L in (("prevalence_L", prevalence_L), ("thresholds_L", thresholds_L)):
        if values_L.shape != (num_labels,):
            raise DataError(
                build_message(
                    name, "wrong shape", got=values_L.shape, expected=f"one value for each of {num_labels} labels"
                )
            )
    # Written so that NaN counts as outside.
    outside_L = ~((prevalence_L >= 0) & (prevalence_L <= 1))
    if outside_L.any():
        column = int(np.argmax(outside_L))
        raise DataError(
            build_message(
                f"prevalence_L at label column {column}",
                "not a share",
                got=float(prevalence_L[column]),
                expected="a number from 0 to 1",
                do="Give 0 for a label that the training part never knows",
            )
        )
    if np.isnan(thresholds_L).any():
        column = int(np.argmax(np.isnan(thresholds_L)))
        raise DataError(build_message(f"thresholds_L at label column {column}", "not a number", expected="a threshold"))
    decisions_L = prevalence_L >= thresholds_L
    return Baseline(np.tile(prevalence_L, (num_images, 1)), np.tile(decisions_L, (num_images, 1)))
