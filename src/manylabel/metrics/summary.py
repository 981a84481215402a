"""All metrics of one evaluation by name, with or without intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message
from manylabel.metrics import decisions
from manylabel.metrics.averaging import fraction, mean_over_labels
from manylabel.metrics.calibration import resampled_brier, resampled_expected_calibration_error
from manylabel.metrics.counts import ConfusionCounts, confusion_counts_per_image, resampled_confusion_counts
from manylabel.metrics.inputs import BoolArray, CountArray, FloatArray, check_decisions, check_probs
from manylabel.metrics.intervals import (
    DEFAULT_CONFIDENCE,
    DEFAULT_NUM_RESAMPLES,
    check_confidence,
    draw_copies,
    find_interval,
    spread_of_mean,
    spread_of_value,
)
from manylabel.metrics.label_order import rank_labels_per_image
from manylabel.metrics.ranking import resampled_average_precision_micro, resampled_label_rankings
from manylabel.metrics.resampling import each_image_once, mean_over_images

MACRO_MICRO_WEIGHTED = {"f1": decisions.f1, "precision": decisions.precision, "recall": decisions.recall}

SUMMARY_NAMES = (
    "average_precision_macro",
    "average_precision_micro",
    "roc_auc_macro",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "f1_samples",
    "f1_of_means",
    "precision_macro",
    "precision_micro",
    "precision_weighted",
    "precision_samples",
    "recall_macro",
    "recall_micro",
    "recall_weighted",
    "recall_samples",
    "hamming_loss",
    "subset_accuracy",
    "jaccard_samples",
    "coverage_error",
    "ranking_loss",
    "label_ranking_average_precision",
    "one_error",
    "expected_calibration_error",
    "brier",
)
"""The names of a summary, in the order in which it lists them."""


LOWER_IS_BETTER = frozenset(
    {"hamming_loss", "coverage_error", "ranking_loss", "one_error", "expected_calibration_error", "brier"}
)
"""The metrics of which less is better; of all others more is."""


UNBOUNDED = frozenset({"coverage_error"})
"""The metrics that can be above 1."""


@dataclass(frozen=True)
class Resampled:
    """Every metric of some resamples: as one value each, and label by label where it is the plain mean over labels.

    `support_of` says on how many images the value of each label rests: those that show it, or were given it.

    Shapes: R resamples, L labels.
    """

    overall_R: Mapping[str, npt.NDArray[np.float64]]
    by_label_RL: Mapping[str, npt.NDArray[np.float64]]
    support_of: Mapping[str, npt.NDArray[np.int64]]


class ValueWithInterval(TypedDict):
    """A metric and the limits of its interval, NaN where undefined."""

    value: float
    low: float
    high: float


def summarise(
    probs_NL: FloatArray, decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None
) -> dict[str, float]:
    """Return every metric of SUMMARY_NAMES for one set of probabilities and decisions.

    A label or an image that leaves a metric undefined is left out of its mean; `brier` is the mean over labels.

    Shapes: N images, L labels.

    Args:
        probs_NL: probability that the image shows the label.
        decisions_NL: True where the label was given to the image.
        truth_NL: True where the image shows the label.
        known_NL: False where nobody knows; such cells never count. None when all are known.

    Returns:
        a number per name; NaN where it is undefined.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell, decisions or truth that
            are not boolean.

    Example:
        >>> probs_NL = np.array([[0.9, 0.1], [0.2, 0.3]])
        >>> truth_NL = np.array([[True, False], [False, True]])
        >>> summary = summarise(probs_NL, probs_NL >= 0.5, truth_NL)
        >>> summary["average_precision_macro"], summary["recall_micro"]
        (1.0, 0.5)
    """
    copies_1N = each_image_once(len(truth_NL))
    resampled = summarise_resamples(probs_NL, decisions_NL, truth_NL, known_NL, copies_1N)
    return {name: float(values_R[0]) for name, values_R in resampled.items()}


def summarise_with_intervals(
    probs_NL: FloatArray,
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray | None = None,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
    group_N: npt.NDArray[np.integer] | None = None,
) -> dict[str, ValueWithInterval]:
    """Return `summarise` with the bootstrap interval of every metric.

    Shapes: N images, L labels.

    Args:
        probs_NL, decisions_NL, truth_NL, known_NL: as in `summarise`.
        num_resamples: how many times the images are drawn anew.
        confidence: how often an interval is to hold the true value, such as 0.95.
        seed: the same seed gives the same intervals.
        group_N: a number for the group of each image, from 0 up; groups are drawn whole. None draws single images.

    Returns:
        value, low and high per name; NaN where undefined. Resamples that leave a metric undefined are left out of
        its interval.

    Raises:
        DataError: as in `summarise`; not one group per image.
        ConfigError: fewer than one resample, or a confidence that is not between 0 and 1.
    """
    check_confidence(confidence)
    num_images = len(truth_NL)
    drawn_RN = draw_copies(num_images, num_resamples, seed, group_N)
    # The data as they are ride along as the first row, so that everything is sorted once.
    copies_RN = np.concatenate([each_image_once(num_images), drawn_RN])
    resampled = resample(probs_NL, decisions_NL, truth_NL, known_NL, copies_RN, group_N)
    return {name: _judge(resampled, name, confidence) for name in SUMMARY_NAMES}


def _judge(resampled: Resampled, name: str, confidence: float) -> ValueWithInterval:
    values_R = resampled.overall_R[name]
    value = float(values_R[0])
    if name in resampled.by_label_RL:
        values_RL = resampled.by_label_RL[name]
        spread = spread_of_mean(values_RL[0], values_RL[1:], resampled.support_of[name])
    else:
        spread = spread_of_value(value, values_R[1:])
    low, high = find_interval(value, spread, confidence, highest=math.inf if name in UNBOUNDED else 1.0)
    return {"value": value, "low": low, "high": high}


def summarise_resamples(
    probs_NL: FloatArray,
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray | None,
    copies_RN: CountArray,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return every metric of SUMMARY_NAMES for each of some resamples, as `summarise` would on the repeated rows.

    Shapes: R resamples, N images, L labels -> R per name.

    Args:
        probs_NL, decisions_NL, truth_NL, known_NL: as in `summarise`.
        copies_RN: how many times each image stands in each resample (see `intervals.draw_copies`).

    Raises:
        DataError: as in `summarise`; copies that are not one whole number from 0 up per image.
    """
    return dict(resample(probs_NL, decisions_NL, truth_NL, known_NL, copies_RN).overall_R)


def resample(
    probs_NL: FloatArray,
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray | None,
    copies_RN: CountArray,
    group_N: npt.NDArray[np.integer] | None = None,
) -> Resampled:
    """Return what `summarise_resamples` returns, and beside it the values of each label.

    Shapes: R resamples, N images, L labels.
    """
    decisions_NL, _, _ = check_decisions(decisions_NL, truth_NL, known_NL)
    probs_NL, truth_NL, known_NL = check_probs(probs_NL, truth_NL, known_NL)
    copies_RN = _check_copies(copies_RN, len(truth_NL))
    counts = resampled_confusion_counts(decisions_NL, truth_NL, known_NL, copies_RN)
    average_precision_RL, roc_auc_RL = resampled_label_rankings(probs_NL, truth_NL, known_NL, copies_RN)
    by_label_RL = {
        "average_precision_macro": average_precision_RL,
        "roc_auc_macro": roc_auc_RL,
        **{f"{name}_macro": metric(counts) for name, metric in MACRO_MICRO_WEIGHTED.items()},
    }
    values = {name: mean_over_labels(values_RL) for name, values_RL in by_label_RL.items()}
    precision_R, recall_R = values["precision_macro"], values["recall_macro"]
    values["f1_of_means"] = fraction(2 * precision_R * recall_R, precision_R + recall_R)
    values["average_precision_micro"] = resampled_average_precision_micro(probs_NL, truth_NL, known_NL, copies_RN)
    values |= _decisions(decisions_NL, truth_NL, known_NL, copies_RN, counts)
    values |= _image_rankings(probs_NL, truth_NL, known_NL, copies_RN)
    values["expected_calibration_error"] = resampled_expected_calibration_error(probs_NL, truth_NL, known_NL, copies_RN)
    values["brier"] = mean_over_labels(resampled_brier(probs_NL, truth_NL, known_NL, copies_RN))
    support_of = dict.fromkeys(by_label_RL, _count_units(truth_NL, group_N))
    support_of["precision_macro"] = _count_units(decisions_NL, group_N)
    return Resampled({name: values[name] for name in SUMMARY_NAMES}, by_label_RL, support_of)


def _count_units(cells_NL: BoolArray, group_N: npt.NDArray[np.integer] | None) -> npt.NDArray[np.int64]:
    """Return for each label in how many images, or groups, a cell is true."""
    if group_N is None:
        return np.asarray(np.count_nonzero(cells_NL, axis=0), np.int64)
    if len(cells_NL) == 0:
        return np.zeros(cells_NL.shape[1], np.int64)
    order_N = np.argsort(group_N, kind="stable")
    sorted_N = np.asarray(group_N)[order_N]
    begins = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    units_GL = np.logical_or.reduceat(cells_NL[order_N], begins, axis=0)
    return np.asarray(np.count_nonzero(units_GL, axis=0), np.int64)


def _decisions(
    decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray, counts: ConfusionCounts
) -> dict[str, npt.NDArray[np.float64]]:
    pooled = counts.pooled()
    per_image = confusion_counts_per_image(decisions_NL, truth_NL, known_NL)
    values = {
        "hamming_loss": decisions.share_wrong(pooled)[:, 0],
        "subset_accuracy": mean_over_images(decisions.all_right(per_image), copies_RN),
        "jaccard_samples": mean_over_images(decisions.jaccard(per_image), copies_RN),
    }
    for name, metric in MACRO_MICRO_WEIGHTED.items():
        values[f"{name}_micro"] = metric(pooled)[:, 0]
        values[f"{name}_weighted"] = mean_over_labels(metric(counts), counts.num_positive_L)
        values[f"{name}_samples"] = mean_over_images(metric(per_image), copies_RN)
    return values


def _image_rankings(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> dict[str, npt.NDArray[np.float64]]:
    rankings = rank_labels_per_image(probs_NL, truth_NL, known_NL)
    return {
        "coverage_error": mean_over_images(rankings.coverage_N, copies_RN),
        "ranking_loss": mean_over_images(rankings.loss_N, copies_RN),
        "label_ranking_average_precision": mean_over_images(rankings.average_precision_N, copies_RN),
        "one_error": mean_over_images(rankings.one_error_N, copies_RN),
    }


def _check_copies(copies_RN: CountArray, num_images: int) -> CountArray:
    copies_RN = np.asarray(copies_RN)
    if copies_RN.ndim != 2 or copies_RN.shape[1] != num_images:
        raise DataError(
            build_message(
                "copies_RN", "wrong shape", got=copies_RN.shape, expected=f"a column for each of {num_images} images"
            )
        )
    if copies_RN.dtype.kind not in "iu" or (copies_RN < 0).any():
        raise DataError(build_message("copies_RN", "not counts", expected="whole numbers from 0 up"))
    return copies_RN
