"""Thresholds chosen from probabilities and truth: one per label where it is frequent enough, else the common one.

The rule for rare labels: with fewer than `MIN_POSITIVES` known positives, or without a known negative, the best
threshold of a label is mostly chance, so the label gets the one threshold that is best for all cells pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_POSITIVES = 5
"""Known positives a label needs in the tuning data for a threshold of its own."""

HALF = 0.5

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """The chosen thresholds [L], and for each whether it is the label's own (`label`) or the common one (`global`)."""

    thresholds_L: npt.NDArray[np.float32]
    sources: tuple[str, ...]
    global_threshold: float


Goal = Callable[[FloatArray, BoolArray, BoolArray], Thresholds]
"""A function of (probs_NL, truth_NL, known_NL)."""


def choose_half(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Thresholds:  # noqa: ARG001 - a Goal
    """Return 0.5 for every label: what a model gives before anything is tuned."""
    num_labels = truth_NL.shape[1]
    return Thresholds(np.full(num_labels, HALF, np.float32), ("global",) * num_labels, HALF)


def choose_f1_thresholds(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Thresholds:
    """Return the thresholds with the largest F1 of each label; rare labels get the one with the largest pooled F1.

    A threshold stands half-way between the last probability it lets in and the first it keeps out, so that the
    rounding of another machine decides no image. Without any known positive all are 0.5.

    Shapes: N images, L labels; unknown cells count nowhere.
    """
    global_threshold = _best_f1_threshold(probs_NL[known_NL], truth_NL[known_NL])
    num_positive_L = (truth_NL & known_NL).sum(axis=0)
    num_negative_L = (~truth_NL & known_NL).sum(axis=0)
    is_tunable_L = (num_positive_L >= MIN_POSITIVES) & (num_negative_L >= 1)
    thresholds_L = np.full(truth_NL.shape[1], global_threshold, np.float32)
    for column in np.flatnonzero(is_tunable_L):
        known_N = known_NL[:, column]
        thresholds_L[column] = _best_f1_threshold(probs_NL[known_N, column], truth_NL[known_N, column])
    sources = tuple("label" if is_tunable else "global" for is_tunable in is_tunable_L)
    return Thresholds(thresholds_L, sources, float(global_threshold))


def _best_f1_threshold(probs_N: FloatArray, truth_N: BoolArray) -> np.float32:
    """Return the threshold with the largest F1 over some cells; of equal ones the highest."""
    num_positive = int(truth_N.sum())
    if num_positive == 0:
        return np.float32(HALF)
    order = np.argsort(-probs_N, kind="stable")
    sorted_N = probs_N[order].astype(np.float32)
    true_positives_N = np.cumsum(truth_N[order])
    num_given_N = np.arange(1, len(order) + 1)
    # Equal probabilities cannot be parted: only the last of a tie is a place to cut.
    is_cut_N = np.append(sorted_N[1:] < sorted_N[:-1], True)
    f1_N = np.where(is_cut_N, 2 * true_positives_N / (num_given_N + num_positive), -1.0)
    last_in = int(np.argmax(f1_N))
    lowest_in = sorted_N[last_in]
    highest_out = sorted_N[last_in + 1] if last_in + 1 < len(sorted_N) else np.float32(0)
    midpoint = np.float32((np.float64(lowest_in) + np.float64(highest_out)) / 2)
    # Rounding to 32 bits may land on the probability that is to be kept out.
    return midpoint if midpoint > highest_out else np.float32(lowest_in)
