"""Metrics of honesty: does a probability of 0.7 come true in seven cases of ten?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.metrics.averaging import fraction
from manylabel.metrics.inputs import BoolArray, CountArray, FloatArray, check_probs
from manylabel.metrics.resampling import each_image_once, split_into_blocks, sum_over_images

DEFAULT_NUM_BINS = 15
BINNINGS = ("equal_width", "equal_mass")
"""How cells are put into bins: by their probability, or as many into each as into any other."""


def expected_calibration_error(
    probs_NL: FloatArray,
    truth_NL: BoolArray,
    known_NL: BoolArray | None = None,
    num_bins: int = DEFAULT_NUM_BINS,
    binning: str = "equal_width",
) -> float:
    """Return the mean gap between probability and frequency, over bins weighted by how many cells they hold.

    All known cells go into one list, whatever their label. Bins of `equal_width` divide [0, 1]; each holds the
    probabilities above its lower edge up to and including its upper edge, the first one also 0. Bins of `equal_mass`
    divide the list by its order; where most probabilities are near 0, they look closer at the others.

    Shapes: N images, L labels.

    Args:
        probs_NL: probability that the image shows the label.
        truth_NL: True where it does.
        known_NL: False where nobody knows; such cells never count. None when all are known.
        num_bins: how many bins, at least 1.
        binning: `equal_width`, which reports use, or `equal_mass`.

    Returns:
        a number in [0, 1]; NaN when no cell is known.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.
        ConfigError: fewer than one bin, or no such binning.

    Example:
        >>> round(expected_calibration_error(np.array([[0.9], [0.9]]), np.array([[True], [False]])), 4)
        0.4

    Source: Guo et al., "On calibration of modern neural networks", 2017, section 2; here the probability of a label
        takes the place of the confidence of the winning class.
    """
    checked = check_probs(probs_NL, truth_NL, known_NL)
    if num_bins < 1:
        raise ConfigError(build_message("num_bins", "too few bins", got=num_bins, expected="1 or more"))
    if binning not in BINNINGS:
        problem = f"unknown binning {binning!r}{suggest_name(binning, BINNINGS)}"
        raise ConfigError(build_message("binning", problem, expected=join_names(BINNINGS)))
    if binning == "equal_mass":
        return _sum_gaps_of_equal_mass(*checked, num_bins)
    return float(resampled_expected_calibration_error(*checked, each_image_once(len(checked[0])), num_bins)[0])


def _sum_gaps_of_equal_mass(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, num_bins: int) -> float:
    probs_K, truth_K = probs_NL[known_NL].astype(np.float64), truth_NL[known_NL]
    order_K = np.argsort(probs_K, kind="stable")
    gaps = [(truth_K[cells] - probs_K[cells]).sum() for cells in np.array_split(order_K, num_bins)]
    return float(fraction(np.abs(gaps).sum(), len(order_K)))


def brier(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None) -> npt.NDArray[np.float64]:
    """Return for each label the mean squared difference between probability and truth.

    Shapes: N images, L labels -> L.

    Returns:
        a number in [0, 1] per label, 0 is best; NaN for a label that is known nowhere.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.

    Example:
        >>> brier(np.array([[1.0, 0.5]]), np.array([[True, False]]))
        array([0.  , 0.25])

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950; for one label of two outcomes
        we take half of his sum over both, as is usual today.
    """
    checked = check_probs(probs_NL, truth_NL, known_NL)
    return resampled_brier(*checked, each_image_once(len(checked[0]))).ravel()


def resampled_expected_calibration_error(
    probs_NL: FloatArray,
    truth_NL: BoolArray,
    known_NL: BoolArray,
    copies_RN: CountArray,
    num_bins: int = DEFAULT_NUM_BINS,
) -> npt.NDArray[np.float64]:
    """Return the expected calibration error of every resample, from checked inputs.

    Shapes: R resamples, N images, L labels -> R.
    """
    num_images, num_labels = probs_NL.shape
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    # The cells of a bin times the gap of their means is the gap of their sums, and sums add up over images.
    gaps_RB = np.zeros((len(copies_RN), num_bins))
    num_known_R1 = np.zeros((len(copies_RN), 1))
    for images in split_into_blocks(num_images, num_labels):
        probs_BL, known_BL = probs_NL[images], known_NL[images]
        bin_BL = np.searchsorted(inner_edges, probs_BL, side="left")
        gap_BL = np.where(known_BL, truth_NL[images] - probs_BL.astype(np.float64), 0)
        slot_BL = bin_BL + np.arange(len(bin_BL))[:, np.newaxis] * num_bins
        gap_per_bin = np.bincount(slot_BL.ravel(), gap_BL.ravel(), minlength=len(bin_BL) * num_bins)
        gaps_RB += sum_over_images(gap_per_bin.reshape(-1, num_bins), copies_RN[:, images])
        num_known_R1 += sum_over_images(np.count_nonzero(known_BL, axis=1)[:, np.newaxis], copies_RN[:, images])
    return fraction(np.abs(gaps_RB).sum(axis=1), num_known_R1[:, 0])


def resampled_brier(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> npt.NDArray[np.float64]:
    """Return the Brier score of every label and resample, from checked inputs.

    Shapes: R resamples, N images, L labels -> R, L.
    """
    num_images, num_labels = probs_NL.shape
    squares_RL = np.zeros((len(copies_RN), num_labels))
    for images in split_into_blocks(num_images, num_labels):
        gap_BL = np.where(known_NL[images], truth_NL[images] - probs_NL[images].astype(np.float64), 0)
        squares_RL += sum_over_images(gap_BL * gap_BL, copies_RN[:, images])
    return fraction(squares_RL, sum_over_images(known_NL, copies_RN))
